"""The page of two studies held against each other. All of its figures come from `seewhy.compare`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seewhy.compare import Alone, Answers, PairedScore, Word
from seewhy.comparison import AnswerPair, Comparison, ModelPair, Spent, WordPair
from seewhy.prices import format_usd
from seewhy.report import numbers, strips
from seewhy.report.claims import Claim, FirstLines
from seewhy.report.comparison_examples import End, example_ends, picture_ids
from seewhy.report.pictures import Picture, write_thumbnails
from seewhy.report.results import About, ReadImages
from seewhy.report.safe import language_tag
from seewhy.report.scores import provenance
from seewhy.report.site import Site
from seewhy.report.verdict import LOWER_IS_BETTER, METRICS, metric_name, model_name

_SHOWN = 40  # words of a group; the others are counted
_THUMBNAIL_PX, _THUMBNAIL_QUALITY = 360, 82
_IMAGES = "images"
"""The folder of the pictures, beside the page."""


@dataclass(frozen=True)
class GainCard:
    """One metric of both, and what the second gains.

    Attributes:
        lines: (letter, value, interval, mark), A and B on one scale.
        gain: the gain, its interval and its mark, on a scale with zero in its middle.
        said: what to make of it.
    """

    metric: str
    meaning: str
    direction: str
    lines: list[tuple[str, str, str, strips.Mark | None]]
    ticks: list[strips.Tick]
    gain: str
    between: str
    mark: strips.Mark | None
    gain_ticks: list[strips.Tick]
    said: str
    clear: bool


@dataclass(frozen=True)
class ModelSection:
    name: str
    called: str
    rows: str
    cautions: list[str]
    cards: list[GainCard]
    examples: list[End]


@dataclass(frozen=True)
class WordLine:
    word: str
    sign: str
    first: str
    first_beside: str
    second: str
    second_beside: str


@dataclass(frozen=True)
class WordGroup:
    label: str
    count: int
    lines: list[WordLine]
    more: int


@dataclass(frozen=True)
class WordSection:
    """The words of one output by one way to find them; `output` is empty for a number."""

    name: str
    output: str
    explain: str
    groups: list[WordGroup]
    note: str


@dataclass(frozen=True)
class AnswerLine:
    label: str
    first: str
    second: str
    kind: str  # "total", "part" of it, or a "reason"


@dataclass(frozen=True)
class AnswerSection:
    name: str
    lines: list[AnswerLine]
    notes: list[str]


def write_comparison(
    folder: str,
    comparison: Comparison,
    *,
    language: str = "",
    configs: Mapping[str, Any] | None = None,
    read_images: ReadImages | None = None,
) -> None:
    """Writes index.html and its style sheet into a local folder, made where it is not there.

    Args:
        language: tag of the texts' language, so that browsers pick the right letters.
        configs: shown as provenance.
        read_images: item ids -> encoded bytes, for the pictures of the examples. None: they have none.

    Raises:
        ValueError: `language` is no language tag.
    """
    out = Path(folder)
    pictures: dict[str, Picture] = {}
    shutil.copytree(Path(__file__).parent / "assets", out / "assets")
    about = About(
        comparison.title, "", comparison.target, comparison.task, classes=comparison.classes, configs=configs or {}
    )
    if read_images is not None and (ids := picture_ids(comparison)):
        pictures = write_thumbnails(out / _IMAGES, ids, read_images, size_px=_THUMBNAIL_PX, quality=_THUMBNAIL_QUALITY)
    Site(out, about, [], language_tag(language)).write(
        "index.html",
        "comparison.html",
        comparison=comparison,
        lines=first_lines(comparison),
        models=[_model_section(one, comparison.target, pictures) for one in comparison.models],
        words=[one for pair in comparison.words for one in _word_sections(pair, comparison)],
        answers=[_answer_section(one) for one in comparison.answers],
        provenance=provenance(about.configs),
    )


def first_lines(comparison: Comparison) -> FirstLines:
    """The headline is that of the first model that is worth something in either; `good` where one is clearly better."""
    claims = [Claim(one.name.capitalize(), gain_claim(one)) for one in comparison.models]
    claims += [Claim(one.name.capitalize(), words_claim(one)) for one in comparison.words]
    claims += [Claim(one.name.capitalize(), answers_claim(one)) for one in comparison.answers]
    target = comparison.target
    if not comparison.models:
        return FirstLines(f"Which of the two predicts {target} better was not measured.", claims, "", False)
    worthy = [one for one in comparison.models if one.first_beats or one.second_beats]
    if not worthy:
        stance = "What differs between them is not known to matter: no choice should rest on it."
        return FirstLines(f"Neither predicts {target} better than its best baseline.", claims, stance, False)
    lead = worthy[0]
    gain = lead.scores[0].gain
    by = (
        ""
        if lead is comparison.models[0]
        else f" That is by the {lead.name}: the {comparison.models[0].name} tells nothing."
    )
    if not gain.clear:
        stance = "The rows are too few to tell, or there is no difference: choose by the answers and the cost."
        return FirstLines(f"Neither predicts {target} clearly better than the other.", claims, stance + by, False)
    better, other = ("B", "A") if gain.value > 0 else ("A", "B")
    stance = f"On the same rows, which neither had seen, {better} is better, and the 95% interval is clear of zero."
    return FirstLines(f"{better} predicts {target} better than {other}.", claims, stance + by, True)


def gain_claim(pair: ModelPair) -> str:
    """``R² 0.61 for A, 0.66 for B on the same 590 rows. B is better by 0.05 (95% interval 0.02 to 0.08).``"""
    lead = pair.scores[0]
    digits = digits_of(lead)
    first, second = (numbers.number(one.value, digits) for one in (lead.first, lead.second))
    said = f"{metric_name(lead.metric)} {first} for A, {second} for B on the same {numbers.plural(pair.rows, 'row')}. "
    return " ".join([said + verdict_of(lead), *beaten(pair)])


def beaten(pair: ModelPair) -> list[str]:
    """Which of the two is not worth its name."""
    if pair.first_beats and pair.second_beats:
        return []
    if not pair.first_beats and not pair.second_beats:
        return ["Neither is better than its best baseline."]
    return [f"{'B' if pair.first_beats else 'A'} is no better than its best baseline."]


def verdict_of(score: PairedScore) -> str:
    """``B is better by 0.05 (95% interval 0.02 to 0.08).``"""
    gain, digits = score.gain, digits_of(score)
    if gain.low is None or gain.high is None:
        return f"B less A: {numbers.signed(gain.value, digits)}, without an interval: the rows are of one group."
    if not gain.clear:
        between = numbers.interval(gain.low, gain.high, digits, plus=True)
        return f"The gain of B, {numbers.signed(gain.value, digits)} (95% interval {between}), is not clear of zero."
    low, high = sorted((abs(gain.low), abs(gain.high)))
    better = "B" if gain.value > 0 else "A"
    between = numbers.interval(low, high, digits)
    return f"{better} is better by {numbers.number(abs(gain.value), digits)} (95% interval {between})."


def words_claim(pair: WordPair) -> str:
    """``12 by both, 3 by A alone, 5 by B alone.``"""
    parts = [
        f"{numbers.count(len(pair.both))} by both",
        f"{numbers.count(len(pair.only_first))} by A alone",
        f"{numbers.count(len(pair.only_second))} by B alone",
    ]
    if pair.turned:
        parts.insert(1, f"{numbers.count(len(pair.turned))} by both with opposite signs")
    return ", ".join(parts) + "."


def answers_claim(pair: AnswerPair) -> str:
    """``590 of 600 (98%) by A, 585 of 600 (98%) by B.``"""
    said = [
        f"{numbers.share(one.answered, one.asked)} by {letter}{_spent_claim(spent)}"
        for letter, one, spent in (("A", pair.first, pair.first_spent), ("B", pair.second, pair.second_spent))
    ]
    return "; ".join(said) + "."


def _spent_claim(spent: Spent) -> str:
    return "" if spent.usd is None else f" for {format_usd(spent.usd)}"


def digits_of(score: PairedScore) -> int:
    """Decimals that tell the gain, for all figures of the metric alike."""
    gain = score.gain
    return min(4, max(2, numbers.decimals([gain.value, gain.low, gain.high])))


def cautions(pair: ModelPair) -> list[str]:
    """What to know of the rows before one believes the scores."""
    said = []
    if pair.moved:
        said.append(
            f"{numbers.share(pair.moved, pair.rows)} rows are in another fold in B than in A, so the models that "
            "predicted them were trained on other rows. No model was trained on the rows that it is scored on."
        )
    if pair.only_first or pair.only_second:
        alone = f"{numbers.plural(pair.only_first, 'row')} only in A, {numbers.count(pair.only_second)} only in B"
        said.append(f"Not scored: {alone}. The models were trained on them all the same.")
    if pair.other_target:
        said.append(f"Not scored: {numbers.plural(pair.other_target, 'row')} whose target is not the same in both.")
    return said


def _model_section(pair: ModelPair, target: str, pictures: Mapping[str, Picture]) -> ModelSection:
    tied = "" if pair.groups == pair.rows else f" in {numbers.plural(pair.groups, 'group')} that are drawn whole"
    first, second = model_name(pair.first), model_name(pair.second)
    return ModelSection(
        name=pair.name.capitalize(),
        called="" if first == second else f"A: {first}. B: {second}.",
        rows=f"{numbers.plural(pair.rows, 'row')} that both have{tied}",
        cautions=[*beaten(pair), *cautions(pair)],
        cards=[_card(score) for score in pair.scores],
        examples=example_ends(pair, target, pictures),
    )


def _card(score: PairedScore) -> GainCard:
    digits = digits_of(score)
    ends = [(letter, one) for letter, one in (("A", score.first), ("B", score.second))]
    scale = strips.around([v for _, one in ends for v in (one.value, one.low, one.high)])
    gain = score.gain
    wide = strips.symmetric([gain.value, gain.low, gain.high])
    return GainCard(
        metric=metric_name(score.metric),
        meaning=METRICS[score.metric][1],
        direction="lower is better" if score.metric in LOWER_IS_BETTER else "higher is better",
        lines=[
            (
                letter,
                numbers.number(one.value, digits),
                numbers.interval(one.low, one.high, digits),
                scale.mark(one.value, one.low, one.high),
            )
            for letter, one in ends
        ],
        ticks=scale.ticks(4),
        gain=numbers.signed(gain.value, digits),
        between=numbers.interval(gain.low, gain.high, digits, plus=True),
        mark=wide.mark(gain.value, gain.low, gain.high),
        gain_ticks=wide.ticks(4),
        said=verdict_of(score),
        clear=gain.clear,
    )


def _word_sections(pair: WordPair, comparison: Comparison) -> list[WordSection]:
    """One an output, those without a word left out."""
    sections = []
    for output in comparison.classes or (comparison.target,):
        groups = [group for group in _groups(pair, output) if group.count]
        if groups:
            sections.append(
                WordSection(
                    name=pair.name.capitalize(),
                    output=output if comparison.classes else "",
                    explain=f"Beside each word its place by {pair.value}, and in how many texts it stands.",
                    groups=groups,
                    note=pair.note,
                )
            )
    return sections


def _groups(pair: WordPair, output: str) -> list[WordGroup]:
    both, turned = ([one for one in pairs if one[0].output == output] for pairs in (pair.both, pair.turned))
    first, second = (
        [one for one in alone if one.found.output == output] for alone in (pair.only_first, pair.only_second)
    )
    return [
        _group("Both find", [_paired(*one, signs=pair.signs) for one in both]),
        _group("Both find, with opposite signs", [_paired(*one, signs=pair.signs) for one in turned]),
        _group("Only A finds", [_of_one(one, signs=pair.signs, first=True) for one in first]),
        _group("Only B finds", [_of_one(one, signs=pair.signs, first=False) for one in second]),
    ]


def _group(label: str, lines: list[WordLine]) -> WordGroup:
    return WordGroup(label, len(lines), lines[:_SHOWN], max(0, len(lines) - _SHOWN))


def _paired(first: Word, second: Word, *, signs: bool) -> WordLine:
    turned = first.sign != second.sign
    return WordLine(
        word=first.word,
        sign="" if not signs or turned else sign_of(first),
        first=_placed(first, turned),
        first_beside=numbers.of(first.texts, first.total),
        second=_placed(second, turned),
        second_beside=numbers.of(second.texts, second.total),
    )


def _of_one(alone: Alone, *, signs: bool, first: bool) -> WordLine:
    own = (_placed(alone.found, False), numbers.of(alone.found.texts, alone.found.total))
    other = ("not put forward", held_elsewhere(alone))
    ends = (*own, *other) if first else (*other, *own)
    return WordLine(alone.found.word, sign_of(alone.found) if signs else "", *ends)


def held_elsewhere(alone: Alone) -> str:
    """In how many texts of the other a word stands that it does not put forward."""
    if alone.texts is None or alone.total is None:
        return "in few texts, or none"
    return numbers.of(alone.texts, alone.total) if alone.texts else "in no text"


def sign_of(word: Word) -> str:
    return "+" if word.sign > 0 else numbers.MINUS


def _placed(word: Word, with_sign: bool) -> str:
    return f"{sign_of(word)} no. {word.rank}" if with_sign else f"no. {word.rank}"


def _answer_section(pair: AnswerPair) -> AnswerSection:
    both = (pair.first, pair.second)
    spent = (pair.first_spent, pair.second_spent)

    def line(label: str, kind: str, values: Sequence[str]) -> AnswerLine:
        return AnswerLine(label, values[0], values[1], kind)

    def shares(label: str, name: str) -> AnswerLine:
        return line(label, "part", [numbers.share(getattr(one, name), one.asked) for one in both])

    lines = [
        line("Images that both asked about", "total", [numbers.count(one.asked) for one in both]),
        shares(f"With {pair.whole}", "answered"),
        shares("Empty", "empty"),
        shares("Refused", "refused"),
        shares("Failed", "failed"),
        *(line(reason, "reason", _counts(reason, both)) for reason in _reasons(both)),
        line("Tokens read", "total", [_tokens(one.tokens_in, one) for one in spent]),
        line("Tokens written", "total", [_tokens(one.tokens_out, one) for one in spent]),
        line("Cost", "total", ["not known" if one.usd is None else format_usd(one.usd) for one in spent]),
    ]
    return AnswerSection(pair.name.capitalize(), lines, answer_notes(pair))


def answer_notes(pair: AnswerPair) -> list[str]:
    """Which images lack a text, and where the cost is from."""
    n = numbers.count
    notes = [
        f"Both have {pair.whole} for {numbers.plural(pair.both_answered, 'image')}, only A for {n(pair.first_alone)}, "
        f"only B for {n(pair.second_alone)}, neither for {n(pair.neither)}."
    ]
    if pair.only_first or pair.only_second:
        notes.append(f"Not counted: {n(pair.only_first)} that only A asked about, {n(pair.only_second)} only B.")
    notes += [
        f"Cost of {letter}: {spent.about}." for letter, spent in (("A", pair.first_spent), ("B", pair.second_spent))
    ]
    return notes


def _reasons(both: Sequence[Answers]) -> list[str]:
    return sorted({reason for one in both for reason in one.reasons})


def _counts(reason: str, both: Sequence[Answers]) -> list[str]:
    return [numbers.count(one.reasons.get(reason, 0)) for one in both]


def _tokens(tokens: int, spent: Spent) -> str:
    if not spent.counted:
        return "not told"
    return f"{numbers.count(tokens)} ({numbers.number(tokens / spent.counted, 0)} an answer)"
