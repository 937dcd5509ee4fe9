"""Runs the stage probe of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/probe.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import probe


def main() -> None:
    run_job(__doc__, probe.run)


if __name__ == "__main__":
    main()
