"""Runs the stage ask of a study, which needs a section `ask`; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/ask.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import ask


def main() -> None:
    run_job(__doc__, ask.run)


if __name__ == "__main__":
    main()
