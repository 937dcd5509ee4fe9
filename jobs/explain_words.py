"""Runs the stage explain_words of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/explain_words.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import explain_words


def main() -> None:
    run_job(__doc__, explain_words.run)


if __name__ == "__main__":
    main()
