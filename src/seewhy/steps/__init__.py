"""The steps of a study, a file each: what a step reads, where its result lies, whether it is there, and how to make it.

Here the study's configuration ends: what is called from here takes flat keyword arguments. Both jobs/ and the command
line call these functions; the steps themselves know Ray only through `run_stage` and `train.loop`.
"""

from collections.abc import Callable

from seewhy.progress import Reporter
from seewhy.steps import caption, explain_words, fetch, report, train_text
from seewhy.steps.plan import Plan
from seewhy.study import Study

RUN: dict[str, Callable[[Study, Reporter], None]] = {
    "fetch": fetch.run,
    "caption": caption.run,
    "train_text": train_text.run,
    "explain_words": explain_words.run,
    "report": report.run,
}
"""In the order in which a study runs them."""

PLAN: dict[str, Callable[[Study], Plan]] = {
    "fetch": fetch.plan,
    "caption": caption.plan,
    "train_text": train_text.plan,
    "explain_words": explain_words.plan,
    "report": report.plan,
}


def wanted(study: Study) -> list[str]:
    """The steps that this study needs: no fetch without images, no caption where the manifest brings the texts."""
    skip = set()
    if study.manifest.image is None:
        skip.add("fetch")
    if study.manifest.text is not None:
        skip.add("caption")
    return [name for name in RUN if name not in skip]
