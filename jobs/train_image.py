"""Runs the stage train_image of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/train_image.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import train_image


def main() -> None:
    run_job(__doc__, train_image.run)


if __name__ == "__main__":
    main()
