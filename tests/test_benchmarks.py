"""Benchmarks are run by hand and would rot unseen: each is run here on next to nothing, for what it measures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "benchmarks"


def subjects() -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location("benchmarks_run", HERE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    return run.SUBJECTS


def test_every_benchmark_is_a_subject() -> None:
    scripts = {script.stem for script in HERE.glob("*.py") if '"--quick"' in script.read_text()}
    assert scripts - {"run"} == set(subjects())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(pytest.param(one, marks=pytest.mark.long) for one in ("train", "stability")), "score", "gemini"]
)
def test_a_benchmark_still_runs(name: str, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, str(HERE / "run.py"), "--quick", "--out", str(out), name]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    rows = json.loads(out.read_text())["rows"]
    assert rows
    assert all(row["ratio"] > 0 for row in rows)


@pytest.mark.long
def test_the_long_run_still_runs() -> None:
    """Two blocks and a half: what it prints of rows and parts is exact, the rest means nothing so small."""
    command = [sys.executable, str(HERE / "million.py"), "--rows", "1250"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["rows"], found["ok"], found["parts"]) == (1250, 1250, 3)
    assert found["caption_driver_mib"][1] > 100
    assert found["fetch_usec_a_row"] > 0
