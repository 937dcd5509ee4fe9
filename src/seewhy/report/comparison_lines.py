"""Two studies held against each other, in plain text for a terminal."""

from collections.abc import Iterator, Sequence

from seewhy.compare import Alone, Word
from seewhy.comparison import AnswerPair, Comparison, ModelPair, WordPair
from seewhy.prices import format_usd
from seewhy.report import numbers
from seewhy.report.comparison import (
    answer_notes,
    beaten,
    cautions,
    digits_of,
    first_lines,
    held_elsewhere,
    sign_of,
    verdict_of,
    words_claim,
)
from seewhy.report.safe import visible
from seewhy.report.verdict import metric_name

_WORDS = 12  # of a list; the page shows more


def comparison_lines(comparison: Comparison) -> list[str]:
    """What the page says, without its pictures; hidden characters are written out."""
    return [visible(line) for line in _lines(comparison)]


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"A  {comparison.first}"
    yield f"B  {comparison.second}"
    for one in comparison.settings:
        yield f"   {one.key}: A {_short(one.first)}, B {_short(one.second)}"
    yield ""
    lead = first_lines(comparison)
    yield from [lead.headline, *([lead.stance] if lead.stance else [])]
    yield from comparison.notes
    for line in comparison.left_out:
        yield f"not compared: {line}"
    for model in comparison.models:
        yield from ["", *_model(model)]
    for words in comparison.words:
        yield from ["", *_words(words, comparison)]
    for answers in comparison.answers:
        yield from ["", *_answers(answers)]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _model(pair: ModelPair) -> Iterator[str]:
    yield f"{pair.name}: {numbers.plural(pair.rows, 'row')} that both have"
    for note in (*beaten(pair), *cautions(pair)):
        yield f"  {note}"
    for score in pair.scores:
        digits = digits_of(score)
        ends = "   ".join(
            f"{letter} {numbers.number(one.value, digits):>7} [{numbers.interval(one.low, one.high, digits)}]"
            for letter, one in (("A", score.first), ("B", score.second))
        )
        yield f"  {metric_name(score.metric):<9} {ends}"
        yield f"  {'':<9} {verdict_of(score)}"


def _words(pair: WordPair, comparison: Comparison) -> Iterator[str]:
    yield f"{pair.name}: {words_claim(pair)}"
    if pair.note:
        yield f"  {pair.note}"
    lists: list[tuple[str, list[str]]] = [
        ("both", [_named(one, comparison, pair.signs) for one, _ in pair.both]),
        ("opposite signs", [_named(one, comparison, True) for one, _ in pair.turned]),
        ("only A", [_alone(one, comparison, pair.signs) for one in pair.only_first]),
        ("only B", [_alone(one, comparison, pair.signs) for one in pair.only_second]),
    ]
    for label, words in lists:
        if words:
            more = f" and {numbers.count(len(words) - _WORDS)} more" if len(words) > _WORDS else ""
            yield f"  {label}: {', '.join(words[:_WORDS])}{more}"


def _named(word: Word, comparison: Comparison, signs: bool) -> str:
    named = f"{sign_of(word)}{word.word}" if signs else word.word
    return f"{named} ({word.output})" if comparison.classes else named


def _alone(alone: Alone, comparison: Comparison, signs: bool) -> str:
    return f"{_named(alone.found, comparison, signs)} [the other: {held_elsewhere(alone)}]"


def _answers(pair: AnswerPair) -> Iterator[str]:
    yield f"{pair.name}: {numbers.plural(pair.first.asked, 'image')} that both asked about"
    for letter, one, spent in (("A", pair.first, pair.first_spent), ("B", pair.second, pair.second_spent)):
        yield (
            f"  {letter} with {pair.whole} {numbers.share(one.answered, one.asked)}, empty {numbers.count(one.empty)}, "
            f"refused {numbers.count(one.refused)}, failed {numbers.count(one.failed)}{_reasons(one.reasons)}"
        )
        cost = "cost not known" if spent.usd is None else format_usd(spent.usd)
        tokens = (
            f"{numbers.count(spent.tokens_in)} tokens read, {numbers.count(spent.tokens_out)} written"
            if spent.counted
            else "tokens not told"
        )
        yield f"    {tokens}, {cost}"
    for note in answer_notes(pair):
        yield f"  {note}"


def _reasons(reasons: dict[str, int]) -> str:
    named: Sequence[str] = [f"{reason} {numbers.count(count)}" for reason, count in reasons.items()]
    return f" ({', '.join(named)})" if named else ""
