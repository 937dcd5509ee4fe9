"""Runs a whole study: every stage that its texts and images need, in order, going on where an earlier run ended.

ray job submit --working-dir . -- python jobs/run.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps.order import run_study


def main() -> None:
    run_job(__doc__, run_study)


if __name__ == "__main__":
    main()
