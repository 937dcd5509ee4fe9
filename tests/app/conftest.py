from pathlib import Path

import pytest

from tests.app.sample import run_here, write_study
from tests.report.conftest import browser as browser


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a study that was run up to its scores; not to be changed."""
    study = write_study(tmp_path_factory.mktemp("app") / "ten")
    run_here(study, until="score")
    return study
