"""Runs the stage caption of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/caption.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import caption


def main() -> None:
    run_job(__doc__, caption.run)


if __name__ == "__main__":
    main()
