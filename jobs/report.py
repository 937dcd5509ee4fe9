"""Runs the stage report of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/report.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import report


def main() -> None:
    run_job(__doc__, report.run)


if __name__ == "__main__":
    main()
