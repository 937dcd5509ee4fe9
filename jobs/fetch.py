"""Runs the stage fetch of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/fetch.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import fetch


def main() -> None:
    run_job(__doc__, fetch.run)


if __name__ == "__main__":
    main()
