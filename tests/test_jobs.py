"""The jobs as a cluster runs them: submitted to a Ray head, each in its own copy of the folder, by their exit codes."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seewhy.cli import run_job
from seewhy.progress import Reporter
from seewhy.study import Study
from tests.ray_head import BIN, running_head
from tests.train.encoders import save_tiny_bert

JOBS = Path(__file__).parents[1] / "jobs"


def write_study(folder: Path, *, name: str = "study.yaml", workspace: str, manifest: str = "films.csv") -> str:
    """A study of texts with an encoder beside it, so small that all of it takes seconds."""
    value = {
        "title": "Films by their titles",
        "workspace": workspace,
        "manifest": {"path": manifest, "text": "text", "target": "score"},
        "train_text": {"encoder": "./encoder", "epochs": 1, "folds": 2, "launcher": "here"},
        "explain_words": {"max_evals": 4, "resources": {"cpus_per_worker": 0.5, "rows_per_block": 40}},
    }
    (folder / name).write_text(yaml.safe_dump(value))
    return str(folder / name)


def test_a_workspace_in_a_jobs_own_copy_of_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray unpacks --working-dir into a folder called _ray_pkg_ and a hash, and removes it when it needs the room."""
    copy = tmp_path / "_ray_pkg_0123456789abcdef"
    copy.mkdir()
    ran: list[str] = []

    def step(study: Study, _: Reporter) -> None:
        ran.append(study.workspace)

    for workspace in ("out", "sub/out", str(copy / "out")):
        monkeypatch.setattr(sys, "argv", ["run.py", write_study(copy, workspace=workspace)])
        with pytest.raises(SystemExit) as ended:
            run_job("About the job.", step)
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert f"seewhy: the workspace {copy}/" in said
        assert "would be lost with it: give an absolute path" in said
    for workspace in (str(tmp_path / "out"), "gs://bucket/out"):
        monkeypatch.setattr(sys, "argv", ["run.py", write_study(copy, workspace=workspace)])
        run_job("About the job.", step)
    assert ran == [str(tmp_path / "out"), "gs://bucket/out"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_job_ends_with_its_report_or_with_the_reason_why_not(tmp_path: Path) -> None:
    shutil.copytree(JOBS, tmp_path / "here" / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    save_tiny_bert(tmp_path / "here" / "encoder")
    rows = [["text", "score"], *([f"a {'dark' if i % 2 else 'bright'} scene {i}", i] for i in range(40))]
    with open(tmp_path / "here" / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    write_study(tmp_path / "here", workspace=str(tmp_path / "out"))
    write_study(tmp_path / "here", name="lost.yaml", workspace=str(tmp_path / "none"), manifest="lost.csv")

    with running_head({"num-cpus": 2}) as head:

        def submit(study: str) -> "subprocess.Popen[str]":
            command = [BIN / "ray", "job", "submit", "--address", head.address, "--working-dir", tmp_path / "here"]
            command += ["--", "python", "jobs/run.py", study]
            return subprocess.Popen(command, env=head.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        good, bad = submit("study.yaml"), submit("lost.yaml")
        said_good, said_bad = good.communicate(timeout=240)[0], bad.communicate(timeout=240)[0]
    assert good.returncode == 0, said_good
    assert "train_text: done in" in said_good
    assert "Films by their titles" in (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert bad.returncode != 0, said_bad
    assert "seewhy: no manifest at" in said_bad
    assert "lost.csv" in said_bad
    assert not (tmp_path / "none").exists()
