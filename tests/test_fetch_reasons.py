"""What a header or a status is taken to mean."""

import time
from email.utils import formatdate

import pytest

from seewhy.fetch.reasons import by_status, retry_after_sec


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("0", 0, 0), ("7", 7, 7), (" 1.5 ", 1.5, 1.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)
def test_retry_after_in_seconds_and_as_a_date(header, low, high):
    assert low <= retry_after_sec(header) <= high
    assert 58 <= retry_after_sec(formatdate(time.time() + 60, usegmt=True)) <= 60
    for nonsense in (None, "", "soon", "-1", "1e9", "9" * 30, "Wed, 99 Oct 2015"):
        assert retry_after_sec(nonsense) is None


def test_a_status_decides_the_kind_alone():
    transient = [status for status in range(300, 600) if by_status(status).kind == "transient"]
    assert transient == [408, 425, 429, *range(500, 600)]
    assert by_status(404).reason == "http_404"
