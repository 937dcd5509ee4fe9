"""Runs the stage describe of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/describe.py STUDY
"""

from functools import partial

from seewhy.cli import run_job
from seewhy.steps.order import run_study


def main() -> None:
    run_job(__doc__, partial(run_study, only="describe"))


if __name__ == "__main__":
    main()
