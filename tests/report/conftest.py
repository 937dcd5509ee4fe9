from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seewhy.report import build_report
from tests.report.sample import sample

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on 60 posters with a numeric target; not to be changed."""
    out = tmp_path_factory.mktemp("posters") / "report"
    return Path(build_report(str(out), **sample())).parent


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds a report on the sample, with arguments changed, and returns its folder."""

    def made(arguments: dict[str, Any] | None = None, **changed: Any) -> Path:
        given = sample() if arguments is None else arguments
        return Path(build_report(str(tmp_path / "report"), **{**given, **changed})).parent

    return made
