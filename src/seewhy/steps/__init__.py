"""The steps of a study, a file each: what a step reads, where its result lies, whether it is there, and how to make it.

Here the study's configuration ends: what is called from here takes flat keyword arguments. Both jobs/ and the command
line call these functions; the steps themselves know Ray only through `run_stage` and `train.loop`.
"""

from collections.abc import Callable

from seewhy.progress import Reporter
from seewhy.steps import (
    ask,
    caption,
    describe,
    explain_images,
    explain_words,
    fetch,
    probe,
    report,
    score,
    train_image,
    train_text,
)
from seewhy.steps.plan import Plan
from seewhy.study import Study

RUN: dict[str, Callable[[Study, Reporter], None]] = {
    "fetch": fetch.run,
    "caption": caption.run,
    "train_text": train_text.run,
    "explain_words": explain_words.run,
    "train_image": train_image.run,
    "explain_images": explain_images.run,
    "describe": describe.run,
    "score": score.run,
    "ask": ask.run,
    "probe": probe.run,
    "report": report.run,
}
"""In the order in which a study runs them."""

PLAN: dict[str, Callable[[Study], Plan]] = {
    "fetch": fetch.plan,
    "caption": caption.plan,
    "train_text": train_text.plan,
    "explain_words": explain_words.plan,
    "train_image": train_image.plan,
    "explain_images": explain_images.plan,
    "describe": describe.plan,
    "score": score.plan,
    "ask": ask.plan,
    "probe": probe.plan,
    "report": report.plan,
}


def wanted(study: Study) -> list[str]:
    """The steps of its path: no fetch without images, no caption of texts that are there, nothing unasked."""
    skip = set()
    if study.manifest.media is None:
        skip.add("fetch")
    if not study.has_captions:
        skip.add("caption")
    if not study.has_text_path:
        skip |= {"train_text", "explain_words"}
    if not study.has_image_path:
        skip |= {"train_image", "explain_images", "describe"}
    if study.score is None:
        skip.add("score")
    if study.ask is None:
        skip.add("ask")
    return [name for name in RUN if name not in skip]
