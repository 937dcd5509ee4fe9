"""What came of holding two studies against each other, as reports and commands read it: see ``seewhy.compare``."""

from dataclasses import dataclass, field

from seewhy.compare import Alone, Answers, PairedScore, Word


@dataclass(frozen=True)
class Spent:
    """What the answers to the images that both were asked about took, for one of the two.

    Attributes:
        counted: answers, refused ones too, whose tokens the backend told.
        tokens_in, tokens_out: their sums.
        usd: what they cost by the service's list price; None where that is not known.
        about: of the price: where it is from, or why there is none.
    """

    counted: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    about: str


@dataclass(frozen=True)
class Said:
    """What one of the two read of a row, and what it made of it.

    Attributes:
        item: id of what it read.
        text: that it read; empty where it is not known.
        value: the number that it predicted, or the probability that it gave the true class.
        output: the class that it predicted; empty for a number.
    """

    item: str
    text: str
    value: float
    output: str


@dataclass(frozen=True)
class Example:
    """A row that one of the two comes closer to.

    Attributes:
        row: its place in the first one's manifest, from 0.
        target: the number, or the class.
        closer: how much closer the second comes, see `closer_by`.
    """

    row: int
    target: float | str
    first: Said
    second: Said
    closer: float


@dataclass(frozen=True)
class ModelPair:
    """A model of each, on the rows that both predicted without having seen them.

    Attributes:
        name: what both are, such as ``text model``.
        first, second: what each is called.
        first_beats, second_beats: it is better than its own best baseline, on all of its own rows.
        rows: that both predicted, for the same target.
        groups: of rows that one split may not part, by either.
        only_first, only_second: rows that the other lacks.
        other_target: rows of both that do not have the same target in both, left out.
        moved: of `rows`, those that are in another fold in the second than in the first.
        scores: one a metric.
        first_closer, second_closer: the rows that either comes closer to by most; not told of every pair.
    """

    name: str
    first: str
    second: str
    first_beats: bool
    second_beats: bool
    rows: int
    groups: int
    only_first: int
    only_second: int
    other_target: int
    moved: int
    scores: list[PairedScore]
    first_closer: list[Example] = field(default_factory=list)
    second_closer: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class WordPair:
    """The words of each by one way to find them.

    Attributes:
        name: where the words come from, such as ``words of the captions``.
        value: what the words' values are.
        signs: words speak against an output too; False: only those for it are told.
        note: what to know before one reads them; may be empty.
    """

    name: str
    value: str
    signs: bool
    both: list[tuple[Word, Word]]
    turned: list[tuple[Word, Word]]
    only_first: list[Alone]
    only_second: list[Alone]
    note: str = ""


@dataclass(frozen=True)
class AnswerPair:
    """What became of the images that both asked a vision-language model about.

    Attributes:
        name: what was asked for, such as ``captions``.
        whole: what an image has that counts as answered.
        only_first, only_second: images that the other did not ask about; they are not counted.
        both_answered, neither: images with a text of both, and of neither.
        first_alone, second_alone: images with a text of that one only.
    """

    name: str
    only_first: int
    only_second: int
    first: Answers
    second: Answers
    first_spent: Spent
    second_spent: Spent
    both_answered: int
    neither: int
    first_alone: int
    second_alone: int
    whole: str = "a text"


@dataclass(frozen=True)
class Setting:
    """A setting that is not the same in both; ``default`` where the study leaves it open."""

    key: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """All that was compared.

    Attributes:
        first, second: what each study is called.
        target, task, classes: as in a report.
        left_out: what could not be compared, and why.
        notes: what to know of the whole.
    """

    first: str
    second: str
    title: str
    target: str
    task: str
    classes: tuple[str, ...]
    settings: list[Setting]
    models: list[ModelPair]
    words: list[WordPair]
    answers: list[AnswerPair]
    left_out: list[str]
    notes: list[str]
