"""Steps of a study, one after the other, in a process that a test can kill.

    python -m tests.faults.driver STUDY LOG PAUSE_SEC STEP...

LOG/STEP/times says when a step began and ended, LOG/STEP/begun which rows it began (see `watched`). fetch is not made
to pause: what it asks is slow.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy import run
from seewhy.progress import Reporter
from seewhy.run import Stage
from seewhy.steps import plan, words
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import load_study
from seewhy.table import Counts
from tests.faults.watched import Watched


def watch(log: Path, pause_sec: float) -> None:
    """From now on every row stage of this process is a watched one."""
    log.mkdir(parents=True, exist_ok=True)

    def run_stage(stage: type[Stage], stage_args: Mapping[str, Any], *args: Any, **options: Any) -> Counts:
        inner = {"stage": stage, "stage_args": dict(stage_args), "log": str(log), "pause_sec": pause_sec}
        return run.run_stage(Watched, inner, *args, **options)

    plan.run_stage = run_stage


def run_step(path: str, step: str) -> None:
    reporter = Reporter(quiet=True)
    if step == "check_maps":  # a step of its own only here, so that kills of one table are not mixed with another's
        run_study(load_study(path, changed={"explain_images.check_sample": 1000}), reporter, only="explain_images")
        return
    study = load_study(path)
    if step != "words":
        run_study(study, reporter, only=step)
        return
    forget()
    words.cut(study, words.gather_texts(study, words.TEXT, step="probe"), reporter)


def main() -> None:
    path, folder, pause_sec, *asked = sys.argv[1:]
    for step in asked:
        log = Path(folder) / step
        watch(log / "begun", 0.0 if step == "fetch" else float(pause_sec))
        for done in (False, True):
            if done:
                run_step(path, step)
            with open(log / "times", "a") as times:
                times.write(f"{'ended' if done else 'began'} {time.time()}\n")


if __name__ == "__main__":
    main()
