"""The YAML that a user writes, as pydantic models: unknown keys refused, errors that name key and value."""

import difflib
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from seewhy import storage, urls
from seewhy.failure import KINDS, Fatal
from seewhy.hiding import shown, told
from seewhy.plain_yaml import read_yaml
from seewhy.sections import (
    Ask,
    Caption,
    Describe,
    ExplainImages,
    ExplainWords,
    Fetch,
    Fraction,
    Manifest,
    Positive,
    Probe,
    Report,
    Score,
    Section,
    TrainImage,
    TrainText,
    Usd,
)


def _both(price: dict[Literal["in", "out"], float]) -> dict[Literal["in", "out"], float]:
    if len(price) < 2:
        raise ValueError(f"a price is USD a million tokens for both in and out, not {dict(price)}")
    return price


class Study(Section):
    """A whole study. See README for an example."""

    title: str
    question: str = ""
    workspace: str
    manifest: Manifest
    path: Literal["text", "image", "both", "words"] = "text"
    """text: captions, a text model and its words' values. image: an image model, its heat maps and what a
    vision-language model sees in them. words: only the sparse probe, on the texts."""
    limit: Positive | None = None
    """Only the first so many rows of the manifest."""
    max_failed_fraction: Fraction = 0.2
    retry: list[Literal["transient", "rejected", "bad_input"]] = Field(default=["transient"])
    budget: Usd | None = None
    """USD that all calls to services may cost together, those of earlier runs in this workspace included; no call is
    made that could break it. None: any sum."""
    prices: dict[str, Annotated[dict[Literal["in", "out"], Usd], AfterValidator(_both)]] = Field(default={})
    """By model, in place of those in prices.json: ``{in: USD, out: USD}`` a million tokens."""
    usd_per_gpu_hour: Usd | None = None
    """What a GPU of the cluster costs, for `seewhy plan --pilot`."""
    fetch: Fetch = Fetch()
    caption: Caption = Caption()
    train_text: TrainText = TrainText()
    explain_words: ExplainWords = ExplainWords()
    train_image: TrainImage = TrainImage()
    explain_images: ExplainImages = ExplainImages()
    describe: Describe = Describe()
    score: Score | None = None
    """None: no scores."""
    ask: Ask | None = None
    """None: no questions."""
    probe: Probe = Probe()
    report: Report = Report()

    @model_validator(mode="after")
    def _videos_where_they_make_sense(self) -> Self:
        if self.manifest.video is None:
            if self.caption.frames is not None:
                raise ValueError("caption.frames is of videos: name their column (manifest.video)")
            return self
        wants = {
            f"path {self.path}": self.has_image_path,
            "score": self.score is not None,
            "ask": self.ask is not None,
        }
        if refused := [name for name, wanted in wants.items() if wanted]:
            raise ValueError(
                f"{' and '.join(refused)}: works on images alone. A study of videos (manifest.video) captions them: "
                "path text or words"
            )
        return self

    @model_validator(mode="after")
    def _images_where_needed(self) -> Self:
        if self.has_image_path and self.manifest.image is None:
            raise ValueError(f"path {self.path} needs the column of the images (manifest.image)")
        if self.score is not None and self.manifest.image is None:
            raise ValueError("score needs the column of the images (manifest.image)")
        if self.probe.scores != "none" and self.score is None:
            raise ValueError(f"probe.scores is {self.probe.scores}: name the texts to score in the section `score`")
        if self.probe.scores != "none" and not self.has_texts:
            raise ValueError(
                f"probe.scores is {self.probe.scores}: scores join the probe of captions or texts, which path "
                f"{self.path} has not"
            )
        if self.ask is not None and self.manifest.image is None:
            raise ValueError("ask needs the column of the images (manifest.image)")
        return self

    @model_validator(mode="after")
    def _objects_by_uri_where_they_can_be_read(self) -> Self:
        if not self.fetch.by_uri:
            return self
        if not self.has_captions or self.caption.backend != "gemini":
            raise ValueError("fetch.by_uri hands objects to a service that reads them: it needs captions by gemini")
        if self.caption.frames is not None:
            raise ValueError("fetch.by_uri leaves nothing to take caption.frames from: set one of the two")
        if self.has_image_path or self.score is not None or self.ask is not None:
            raise ValueError("fetch.by_uri is for captions alone: path image, score and ask need the images themselves")
        return self

    @model_validator(mode="after")
    def _answers_where_they_can_be_words(self) -> Self:
        if self.probe.answers is None:
            return self
        if self.ask is None or not self.ask.questions:
            raise ValueError("probe.answers needs a section ask with questions")
        if not self.has_texts:
            raise ValueError("probe.answers needs path text, both or words; path image has its own words")
        if self.manifest.text is not None:
            raise ValueError("probe.answers and manifest.text cannot go together: an answer belongs to an image")
        return self

    @property
    def has_text_path(self) -> bool:
        return self.path in ("text", "both")

    @property
    def has_image_path(self) -> bool:
        return self.path in ("image", "both")

    @property
    def has_texts(self) -> bool:
        """Whether texts are needed that are no descriptions: captions, or a column of the manifest."""
        return self.path != "image"

    @property
    def has_captions(self) -> bool:
        """Whether images are captioned: not where texts are there, nor where the answers to questions are all texts."""
        only_answers = self.path == "words" and self.probe.answers == "instead"
        return self.has_texts and self.manifest.text is None and not only_answers


assert set(get_args(get_args(Study.model_fields["retry"].annotation)[0])) == set(KINDS)


def load_study(path: str, *, limit: int | None = None, changed: Mapping[str, Any] = MappingProxyType({})) -> Study:
    """Reads and checks a study; manifest and workspace given as relative paths are beside the study.

    Args:
        path: a YAML file at any fsspec URL.
        limit: overrides the study's own `limit`.
        changed: settings in place of the study's own, by their dotted keys; see `read_changes`.

    Raises:
        Fatal: no such file, no YAML, or keys and values that are not allowed, all of them named.
    """
    name = shown(path)
    data = storage.read_named(path, "study")
    try:
        value = read_yaml(data.decode("utf-8"))
    except ValueError as error:
        raise Fatal(f"{name} is not YAML as a study is written: {error}") from error
    if not isinstance(value, dict):
        raise Fatal(f"{name} must hold keys and values, not {type(value).__name__}")
    if limit is not None:
        value["limit"] = limit
    for key, setting in changed.items():
        _put(value, key.split("."), setting)
    study = check_study(value, name=name)
    beside = urls.without_query(path)
    folder = beside.rsplit("/", 1)[0] if "/" in beside else "."
    return study.model_copy(
        update={
            "workspace": _beside(folder, study.workspace),
            "fetch": study.fetch.model_copy(update={"roots": [_beside(folder, root) for root in study.fetch.roots]}),
            "manifest": study.manifest.model_copy(update={"path": _beside(folder, study.manifest.path)}),
            "caption": study.caption.model_copy(update={"model": _local_model(folder, study.caption.model)}),
            "describe": study.describe.model_copy(update={"model": _local_model(folder, study.describe.model)}),
            "score": study.score and study.score.model_copy(update={"model": _local_model(folder, study.score.model)}),
            "ask": study.ask and study.ask.model_copy(update={"model": _local_model(folder, study.ask.model)}),
            "probe": study.probe.model_copy(
                update={"user_dictionary": study.probe.user_dictionary and _beside(folder, study.probe.user_dictionary)}
            ),
            "train_image": study.train_image.model_copy(
                update={"model": _local_model(folder, study.train_image.model)}
            ),
            "train_text": study.train_text.model_copy(
                update={"encoder": _local_model(folder, study.train_text.encoder)}
            ),
        }
    )


def read_changes(given: Sequence[str]) -> dict[str, Any]:
    """``caption.temperature=0`` -> dotted key and value. A value is read as in a study, but a text may hold a colon.

    Raises:
        Fatal: one that is no ``key=value``.
    """
    found: dict[str, Any] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign or not all(key.split(".")):
            raise Fatal(f"{one!r} must be key=value, such as caption.temperature=0")
        try:
            read = read_yaml(value)
        except ValueError:
            read = value
        found[key] = value if isinstance(read, dict) and not value.lstrip().startswith("{") else read
    return found


def _put(study: dict[str, Any], path: Sequence[str], setting: Any) -> None:
    """Sets one value; sections that are not there are made. A key that is no section is left for `check_study`."""
    for name in path[:-1]:
        inner = study.get(name)
        study[name] = dict(inner) if isinstance(inner, dict) else {}
        study = study[name]
    study[path[-1]] = setting


_LONGEST_SHOWN = 200
"""Characters of a wrong value that a message shows."""
_MOST_TOLD = 50
"""Mistakes that a message names."""


def check_study(value: dict[str, Any], *, name: str = "study") -> Study:
    """Builds a Study from plain values; see `load_study` for the errors."""
    try:
        return Study.model_validate(value)
    except ValidationError as error:
        found = error.errors()
        lines = [_explain(e) for e in found[:_MOST_TOLD]]
        if len(found) > _MOST_TOLD:
            lines.append(f"  and {len(found) - _MOST_TOLD:,} more")
        raise Fatal(f"{name}: {len(found):,} mistake{'s' * (len(found) > 1)}\n" + "\n".join(lines)) from None


def _beside(folder: str, path: str) -> str:
    path = os.path.expanduser(path.removeprefix("file://"))
    if "://" in path or os.path.isabs(path):
        return path
    joined = urls.join(folder, path.removeprefix("./"))  # a bucket would have a folder called `.`
    return joined if "://" in folder else os.path.abspath(joined)


def _local_model(folder: str, model: str | None) -> str | None:
    """A model given as ./path or ../path is beside the study; anything else is a hub name or an absolute path."""
    return _beside(folder, model) if model and model.startswith((".", "~")) else model


def _explain(error: Any) -> str:
    """One line: the key, the value, what is allowed."""
    location = [
        part
        for part in error["loc"]
        if not (isinstance(part, str) and part.startswith(("function-", "list[", "tuple[", "constrained")))
    ]
    key = ".".join(str(part) for part in location) or "study"
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"  {key}: unknown key{hint}; allowed here: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"  {key}: missing"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"] if not isinstance(error["input"], dict) else "given"
    return f"  {key}: {_cut(told(repr(value)))} is not allowed: {message[0].lower()}{message[1:]}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _keys_at(location: list[Any]) -> list[str]:
    model: Any = Study
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        kinds = (*get_args(field.annotation), field.annotation) if field else ()  # `Score | None` has two
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
