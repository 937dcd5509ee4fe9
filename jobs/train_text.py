"""Runs the stage train_text of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/train_text.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import train_text


def main() -> None:
    run_job(__doc__, train_text.run)


if __name__ == "__main__":
    main()
