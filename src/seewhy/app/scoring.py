"""One text against one picture, again and again, and the table of what was tried."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import torch

from seewhy.failure import BAD_INPUT, Failure
from seewhy.images import BadImage, decode
from seewhy.report.safe import cell
from seewhy.siglip import SOFTMAX, TextImageModel


@dataclass(frozen=True)
class Trial:
    """A text that was held against a picture.

    Attributes:
        picture, picture_id: name and hash of the picture.
        model: as it was asked for. templates: prompts that the text was put into.
        softmax: the model gives shares among several texts (CLIP), not a probability a text.
    """

    text: str
    logit: float
    picture: str
    picture_id: str
    model: str
    templates: tuple[str, ...]
    softmax: bool


class Scorer:
    """A SigLIP, SigLIP 2 or CLIP, for one pair at a time; may be shared by threads.

    Args: see `siglip.TextImageModel`.

    Raises:
        Fatal: the model cannot be had.
    """

    def __init__(self, *, model: str, revision: str | None = None, dtype: str = "auto", device: str = "auto") -> None:
        self._name = model
        self._model = TextImageModel(model=model, revision=revision, dtype=dtype, device=device)
        self._lock = Lock()
        self._seen: tuple[str, torch.Tensor] | None = None  # the last picture's embedding

    def score(
        self, text: str, templates: Sequence[str], *, data: bytes, picture: str, picture_id: str
    ) -> Trial | Failure:
        """Raises:
        Fatal: the text is longer than the model reads, or its tokenizer knows nothing of it.
        ValueError: a template without a place for the text.
        """
        with self._lock:
            texts = self._model.text_embeddings([text], templates=templates)
            seen = self._embedding(data, picture_id)
            if isinstance(seen, Failure):
                return seen
            logit = self._model.logits(seen, texts).item()
        if not math.isfinite(logit):
            return Failure(BAD_INPUT, "not_finite", "the model answers with no finite number")
        softmax = self._model.probability == SOFTMAX
        return Trial(text, logit, picture, picture_id, self._name, tuple(templates), softmax)

    def _embedding(self, data: bytes, picture_id: str) -> torch.Tensor | Failure:
        if self._seen is not None and self._seen[0] == picture_id:
            return self._seen[1]
        try:
            prepared = self._model.prepared(decode(data))
        except BadImage as error:
            return error.failure
        if isinstance(prepared, Failure):
            return prepared
        self._seen = (picture_id, self._model.image_embeddings([prepared]))
        return self._seen[1]


def probabilities(trials: Sequence[Trial]) -> list[float]:
    """Of each trial: the sigmoid of its logit; with CLIP the softmax over all texts tried on its picture.

    Those are of the same model, picture and templates. A text that was tried twice counts once: it would take a share
    from itself.
    """
    groups: dict[tuple[object, ...], dict[str, float]] = {}
    for one in trials:
        groups.setdefault(_group(one), {})[one.text] = one.logit
    return [
        _share(one.logit, list(groups[_group(one)].values())) if one.softmax else _sigmoid(one.logit) for one in trials
    ]


def _group(trial: Trial) -> tuple[object, ...]:
    return trial.model, trial.picture_id, trial.templates


def _sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def _share(logit: float, logits: Sequence[float]) -> float:
    most = max(logits)
    return math.exp(logit - most) / sum(math.exp(one - most) for one in logits)


COLUMNS = ("no", "text", "logit", "probability", "image", "image_id", "model", "templates")


def rows_of(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """COLUMNS of each trial, in the order in which they were tried, numbered from 1."""
    chances = probabilities(trials)
    return [
        {
            "no": number,
            "text": one.text,
            "logit": one.logit,
            "probability": chance,
            "image": one.picture,
            "image_id": one.picture_id,
            "model": one.model,
            "templates": " | ".join(one.templates),
        }
        for number, (one, chance) in enumerate(zip(trials, chances, strict=True), start=1)
    ]


def as_csv(trials: Sequence[Trial]) -> bytes:
    """The table for a spreadsheet: UTF-8 with its mark, and no cell that would be taken for a formula."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows_of(trials):
        writer.writerow({name: cell(value) if isinstance(value, str) else value for name, value in row.items()})
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "replace")
