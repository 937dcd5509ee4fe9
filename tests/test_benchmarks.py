"""Benchmarks are run by hand and would rot unseen: each is run here on next to nothing, for what it measures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_every_benchmark_is_a_subject() -> None:
    scripts = {script.stem for script in HERE.glob("*.py") if '"--quick"' in script.read_text()}
    assert scripts - {"run"} == set(loaded("run").SUBJECTS)


@pytest.mark.parametrize(
    ("large", "growth", "memory", "fine"),
    [
        ({}, 0.0, 1.1, True),
        ({"whole_sec": 129.0}, 0.1, 1.1, True),
        ({"whole_sec": 130.0}, 0.111, 1.1, False),
        ({"fetch_worker_mib": [100, 121]}, 0.0, 1.21, False),
        ({"read_sec": 11.0}, 0.0, 1.1, False),
    ],
)
def test_the_long_run_is_judged(large: dict[str, object], growth: float, memory: float, fine: bool) -> None:
    """A row takes 600 + 300 + 100 microseconds in the small studies, and 90,000 rows more take 90 s more."""
    small = {
        "rows": 10_000, "whole_sec": 30.0, "manifest_sec": 1.0, "fetch_usec_a_row": 600.0, "caption_usec_a_row": 300.0,
        "fetch_worker_mib": [100, 500], "read_sec": 100.0,
    }  # fmt: skip
    most = {**small, "rows": 100_000, "whole_sec": 120.0, "fetch_worker_mib": [100, 110], "read_sec": 1.0, **large}
    seen = loaded("million").judge([small, most, {**small, "whole_sec": 31.0}, {**small, "whole_sec": 29.0}])
    assert (seen["growth"], seen["memory"], seen["as_it_must"]) == (growth, memory, fine)


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
