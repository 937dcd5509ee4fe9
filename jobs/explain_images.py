"""Runs the stage explain_images of a study; the stages before it must be complete.

ray job submit --working-dir . -- python jobs/explain_images.py STUDY
"""

from seewhy.cli import run_job
from seewhy.steps import explain_images


def main() -> None:
    run_job(__doc__, explain_images.run)


if __name__ == "__main__":
    main()
