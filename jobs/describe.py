"""Runs the stage describe of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/describe.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import describe


def main() -> None:
    run_job(__doc__, describe.run)


if __name__ == "__main__":
    main()
