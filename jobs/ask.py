"""Runs the stage ask of a study, which needs a section `ask`; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/ask.py STUDY
"""

from functools import partial

from seewhy.cli import run_job
from seewhy.steps.order import run_study


def main() -> None:
    run_job(__doc__, partial(run_study, only="ask"))


if __name__ == "__main__":
    main()
