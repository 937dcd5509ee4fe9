"""Freed memory that is kept costs no page faults; counted in a process of its own, which does nothing else."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator only")

_COUNT = """
import resource, sys
import numpy as np
from seewhy.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def work():
    for _ in range(20):
        np.ones(8_000_000)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _COUNT, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    assert page_faults("kept") < 1000
    assert page_faults("returned") > 10 * max(100, page_faults("kept"))
