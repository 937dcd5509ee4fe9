"""Runs the stage score of a study, which needs a section `score`; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/score.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import score


def main() -> None:
    run_job(__doc__, score.run)


if __name__ == "__main__":
    main()
