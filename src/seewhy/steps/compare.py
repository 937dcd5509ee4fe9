"""compare: two studies, or one with a setting changed -> which is better on the same rows, which words both find.

Nothing is made anew but the comparison itself: no model runs, and no cluster is needed.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import __version__, folder_swap, schema, storage, urls
from seewhy.compare import (
    Alone,
    Word,
    closer_by,
    count_answers,
    furthest_apart,
    joint_groups,
    matched,
    paired_scores,
    shared_words,
)
from seewhy.comparison import AnswerPair, Comparison, Example, ModelPair, Said, Setting, Spent, WordPair
from seewhy.failure import Fatal
from seewhy.manifest import REGRESSION
from seewhy.prices import Price, price_list, price_of
from seewhy.report.comparison import write_comparison
from seewhy.report.results import ReadImages
from seewhy.sections import ONLINE
from seewhy.steps.comparable import Asked, FoundWords, HeldOut, Side, read_sides
from seewhy.steps.once import forget
from seewhy.steps.vision import used
from seewhy.study import Study

T = TypeVar("T")

_EXAMPLES = 4
"""Rows that are shown of each end."""
_NO_RESULT = {"title", "question", "workspace", "report", "budget", "prices", "usd_per_gpu_hour"}
"""Sections that change nothing that is compared."""
_PACE = ("resources", "batch", "requests_per_minute", "tokens_per_minute")
"""Settings of a section that do not."""
_HAN = ("ja", "zh", "ko")
_MARKER, _DONE = "seewhy-comparison.json", "comparison.json"
"""The first stands in every folder that may be replaced; the second is written last and holds all the numbers."""


@dataclass(frozen=True)
class Compared:
    """Attributes:
    language: of the words, as a language tag; empty where it is not known.
    configs: provenance of both, by letter and step.
    read_images: ids of what the examples' rows show -> encoded bytes, as many as there are.
    """

    comparison: Comparison
    language: str
    configs: dict[str, Any]
    read_images: ReadImages


def compare(first: Study, second: Study, *, names: tuple[str, str], on: date | None = None) -> Compared:
    """Args:
        names: what the two are called.
        on: the day whose prices count; None: today.

    Raises:
        Fatal: the two predict different things, or have nothing in common that is there already.
    """
    forget()
    sides = read_sides(first, second)
    _need_one_question(sides, names)
    classes = tuple(dict.fromkeys([*sides[0].classes, *sides[1].classes]))
    left_out = _left_out(sides, names)
    by_row = first.manifest.path == second.manifest.path
    models: list[ModelPair] = []
    shown: dict[str, list[ReadImages]] = {}  # by kind of texts, of the first model that reads them
    for name, one, other in _in_both(sides[0].models, sides[1].models):
        rows = _rows_of_both((one, other), (sides[0].classes, sides[1].classes), classes, by_row=by_row)
        if rows is None:
            left_out.append(f"{name}: the two have no row in common")
            continue
        examples: tuple[list[Example], ...] = ([], [])
        if one.reads not in shown:
            shown[one.reads] = [side.read_images for side in (other, one) if side.read_images is not None]
            examples = _examples((one, other), rows, classes)
        models.append(_model_pair(name, (one, other), rows, examples))
    comparison = Comparison(
        first=names[0],
        second=names[1],
        title=first.title,
        target=first.manifest.target,
        task=sides[0].task,
        classes=classes,
        settings=differences(first, second),
        models=models,
        words=[_word_pair(name, one, other) for name, one, other in _in_both(sides[0].words, sides[1].words)],
        answers=[
            _answer_pair(name, one, other, on or date.today())
            for name, one, other in _in_both(sides[0].answers, sides[1].answers)
        ],
        left_out=left_out,
        notes=[]
        if by_row
        else ["The manifests differ: rows were matched by image or, where texts are given, by text."],
    )
    if not (comparison.models or comparison.words or comparison.answers):
        raise Fatal("nothing can be compared yet:\n" + "\n".join(f"  {line}" for line in left_out))
    configs = {
        f"{letter}: {step}": told for letter, one in zip("AB", sides, strict=True) for step, told in one.configs.items()
    }
    readers = [read for found in shown.values() for read in found]
    return Compared(comparison, _language([one.language for one in sides]), configs, partial(_read_all, readers))


def _read_all(readers: Sequence[ReadImages], ids: list[str]) -> dict[str, bytes]:
    return {key: image for read in readers for key, image in read(ids).items()}


def write(compared: Compared, out: str, *, json_copy: str | None = None) -> str:
    """The page and its numbers in the folder `out`, which may be at any URL; returns the URL of the page.

    Args:
        json_copy: another place for the numbers.

    Raises:
        Fatal: something else lies at `out`.
    """
    told = {"seewhy": __version__, **_plain(asdict(compared.comparison))}
    if json_copy is not None:
        storage.write_json(json_copy, told)
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "compare")
        write_comparison(
            folder,
            compared.comparison,
            language=compared.language,
            configs=compared.configs,
            read_images=compared.read_images,
        )
        storage.write_json(os.path.join(folder, _MARKER), {"seewhy_comparison": 1})
        storage.write_json(os.path.join(folder, _DONE), told)
        folder_swap.put_folder(folder, out, marker=_MARKER, done=_DONE)
    return urls.join(out, "index.html")


def _plain(value: Any) -> Any:
    """As JSON can hold it: what is not finite is null."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def differences(first: Study, second: Study) -> list[Setting]:
    """The settings that are not the same in both, but for those that change no result."""
    ones, others = (_flat(study.model_dump(mode="json", exclude=_NO_RESULT)) for study in (first, second))
    keys = [key for key in dict.fromkeys([*ones, *others]) if ones.get(key) != others.get(key)]
    return [Setting(key, _said(ones.get(key)), _said(others.get(key))) for key in keys]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key in _PACE:
            continue
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = inner
    return found


def _said(value: Any) -> str:
    if value is None:
        return "default"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _need_one_question(sides: Sequence[Side], names: Sequence[str]) -> None:
    said = [
        f"{'numbers' if one.task == REGRESSION else 'classes'} in the column {one.study.manifest.target!r}"
        for one in sides
    ]
    if said[0] != said[1]:
        raise Fatal(f"{names[0]} predicts {said[0]}, {names[1]} {said[1]}: they cannot be compared")


def _in_both(first: Mapping[str, T], second: Mapping[str, T]) -> Iterator[tuple[str, T, T]]:
    for name, one in first.items():
        if name in second:
            yield name, one, second[name]


def _left_out(sides: Sequence[Side], names: Sequence[str]) -> list[str]:
    """What one of the two lacks: it has no such thing, or a step is not complete."""
    has = [{**one.models, **one.words, **one.answers} for one in sides]
    lines = []
    for name in dict.fromkeys(name for one, there in zip(sides, has, strict=True) for name in (*there, *one.lacks)):
        for one, there, called in zip(sides, has, names, strict=True):
            if name in one.lacks:
                lines.append(f"{name}: {called} is not complete: {one.lacks[name]}")
            elif name not in there:
                lines.append(f"{name}: {called} has none")
    return lines


@dataclass(frozen=True)
class _Rows:
    """The rows that both predicted, for the same target.

    Attributes:
        rows: of each, as `HeldOut` has them.
        outputs: of each (N, K), in the order of all classes.
        target: (N,) the number, or the index of the class.
        lost: rows of both whose targets differ.
    """

    rows: tuple[pa.Table, pa.Table]
    outputs: tuple[np.ndarray, np.ndarray]
    target: np.ndarray
    lost: int


def _rows_of_both(
    pair: tuple[HeldOut, HeldOut],
    own_classes: tuple[Sequence[str], Sequence[str]],
    classes: Sequence[str],
    *,
    by_row: bool,
) -> _Rows | None:
    """None where no row is in both."""
    key = "row" if by_row else schema.ID
    places = matched(*(one.rows[key].to_pylist() for one in pair))
    rows = [one.rows.take(pa.array(place)) for one, place in zip(pair, places, strict=True)]
    same = pc.equal(rows[0]["target"], rows[1]["target"]).to_numpy(zero_copy_only=False)
    if not same.any():
        return None
    first, second = (one.filter(pa.array(same)) for one in rows)
    outputs = [
        _outputs(one.outputs[place[same]], own, classes)
        for one, place, own in zip(pair, places, own_classes, strict=True)
    ]
    target = first["target"]
    if classes:
        target = pc.index_in(target, value_set=pa.array(classes, pa.string()))
    return _Rows((first, second), (outputs[0], outputs[1]), target.to_numpy(), int((~same).sum()))


def _model_pair(
    name: str, pair: tuple[HeldOut, HeldOut], both: _Rows, examples: tuple[list[Example], ...]
) -> ModelPair:
    groups = joint_groups(*(one["group"].to_pylist() for one in both.rows))
    folds = [one["fold"].to_numpy() for one in both.rows]
    matching = len(both.target) + both.lost
    return ModelPair(
        name=name,
        first=pair[0].called,
        second=pair[1].called,
        first_beats=pair[0].beats,
        second_beats=pair[1].beats,
        rows=len(both.target),
        groups=len(np.unique(groups)),
        only_first=len(pair[0].rows) - matching,
        only_second=len(pair[1].rows) - matching,
        other_target=both.lost,
        moved=int((folds[0] != folds[1]).sum()),
        scores=paired_scores(both.target, *both.outputs, groups=groups),
        first_closer=examples[0],
        second_closer=examples[1],
    )


def _examples(
    pair: tuple[HeldOut, HeldOut], both: _Rows, classes: Sequence[str]
) -> tuple[list[Example], list[Example]]:
    """The rows that the first, and that the second comes closer to by most."""
    closer = closer_by(both.target, *both.outputs)
    ids = [one[schema.ID].to_pylist() for one in both.rows]
    ends = furthest_apart(closer, ids[0], most=_EXAMPLES)
    places = [*ends[0], *ends[1]]
    texts = [one.texts(list({its[place] for place in places})) for one, its in zip(pair, ids, strict=True)]

    def said(side: int, place: int) -> Said:
        item, outputs = ids[side][place], both.outputs[side][place]
        value = float(outputs[int(both.target[place])] if classes else outputs[0])
        return Said(item, texts[side].get(item) or "", value, classes[int(outputs.argmax())] if classes else "")

    numbers, targets = (both.rows[0][name].to_pylist() for name in ("row", "target"))
    first, second = (
        [Example(numbers[at], targets[at], said(0, at), said(1, at), float(closer[at])) for at in end] for end in ends
    )
    return first, second


def _outputs(outputs: np.ndarray, own: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(N, K) in the order of all classes; of one that the study does not know the probability is 0."""
    if tuple(own) == tuple(classes):
        return outputs
    found = np.zeros((len(outputs), len(classes)), outputs.dtype)
    found[:, [list(classes).index(name) for name in own]] = outputs
    return found


def _word_pair(name: str, first: FoundWords, second: FoundWords) -> WordPair:
    shared = shared_words(first.found, second.found)
    cut_alike = first.cut_by == second.cut_by
    return WordPair(
        name=name,
        value=first.value,
        signs=first.signs,
        both=shared.both,
        turned=shared.turned,
        only_first=_alone(shared.only_first, second),
        only_second=_alone(shared.only_second, first),
        note=""
        if cut_alike
        else "Texts were cut into words differently: a word may be written otherwise in the other.",
    )


def _alone(found: list[Word], other: FoundWords) -> list[Alone]:
    if not found:
        return []
    holding, total = other.texts_with(sorted({one.word for one in found}))
    return [Alone(one, holding.get(one.word), total) for one in found]


def _answer_pair(name: str, first: Asked, second: Asked, on: date) -> AnswerPair:
    ids = first.ids.filter(pc.is_in(first.ids, value_set=second.ids.combine_chunks()))
    outcomes = []
    for one in (first, second):
        index = one.table.index()
        outcomes.append(index.take(pc.index_in(ids, value_set=index[schema.ID].combine_chunks())))
    kinds = [one[schema.ERROR_KIND].to_pylist() for one in outcomes]
    texts = np.array([[kind is None for kind in one] for one in kinds], dtype=bool)
    return AnswerPair(
        name=name,
        only_first=len(first.ids) - len(ids),
        only_second=len(second.ids) - len(ids),
        first=count_answers(kinds[0], outcomes[0][schema.REASON].to_pylist()),
        second=count_answers(kinds[1], outcomes[1][schema.REASON].to_pylist()),
        first_spent=_spent(first, ids, on),
        second_spent=_spent(second, ids, on),
        both_answered=int((texts[0] & texts[1]).sum()),
        neither=int((~texts[0] & ~texts[1]).sum()),
        first_alone=int((texts[0] & ~texts[1]).sum()),
        second_alone=int((texts[1] & ~texts[0]).sum()),
        whole=first.whole,
    )


def _spent(asked: Asked, ids: pa.ChunkedArray, on: date) -> Spent:
    price, about = _price(asked, on)
    found = used(asked.table, ids, price)
    return Spent(found.rows, found.tokens_in, found.tokens_out, found.usd, about)


def _price(asked: Asked, on: date) -> tuple[Price | None, str]:
    """And, for people, whose it is, or why there is none."""
    model = asked.by.model
    if asked.by.backend not in ONLINE or model is None:
        return None, f"{asked.by.backend} runs on your own machines: no price a token"
    try:
        price = price_of(model, batch=asked.by.batch is not None, on=on, overrides=asked.prices)
    except Fatal:
        return None, f"no price is known for {model}"
    own = {model, model.rsplit("/", 1)[-1]} & set(asked.prices)
    way = "batch" if asked.by.batch else "on line"
    where = "the study's own price" if own else f"list price as of {price_list()['as_of']}, {way}"
    return price, f"{model}, {where}"


def _language(tags: Sequence[str]) -> str:
    """Of several the one that browsers need most: that of texts in Han letters."""
    return next((tag for tag in tags if tag.lower().startswith(_HAN)), next((tag for tag in tags if tag), ""))
