from typing import Any

import pytest

from seewhy.report import items, plain_word


def make(text: str, sentences: list[tuple[str, float]], words: list[tuple[str, float]], output: float) -> items.Item:
    spans, at = [], 0
    for word, value in words:
        start = text.index(word, at)
        at = start + len(word)
        spans.append({"text": word, "start": start, "end": at, "values": [value]})
    explanation: dict[str, Any] = {
        "base_values": [1.0],
        "outputs": [output],
        "words": spans,
        "sentences": [{"text": t, "values": [v]} for t, v in sentences],
    }
    return items.Item("a", "a", "a", text, [], 1.0, [output], 0, explanation)


def account(item: items.Item) -> items.Account:
    return items.account(item, output=0, output_name="rating", limit=0.5, digits=2, word_key=plain_word)


def test_each_step_starts_where_the_one_before_ended() -> None:
    # The scale runs from 0.45 to 1.55: base 1 less and plus the limit 0.5, and a twentieth of that span at either end.
    steps = account(make("", [("Up.", 0.5), ("Down.", -0.25)], [], 1.25)).steps
    assert [(s.label, s.value, s.total) for s in steps] == [
        ("Before reading anything", "1.00", True),
        ("Up.", "+0.50", False),
        ("Down.", "−0.25", False),
        ("Prediction", "1.25", True),
    ]
    marks = [s.mark for s in steps if s.mark]
    assert [m.at for m in marks] == ["50.00%", "91.82%", "70.91%", "70.91%"]
    assert [(m.bar_from, m.bar_width, m.sign) for m in marks[1:3]] == [
        ("50.00%", "41.82%", "pos"),
        ("70.91%", "20.91%", "neg"),
    ]


def test_what_no_sentence_accounts_for_is_a_step_of_its_own() -> None:
    steps = account(make("", [("Up.", 0.5)], [], 1.6)).steps
    assert [(s.label, s.value) for s in steps[2:]] == [
        ("Not attributed to any sentence", "+0.10"),
        ("Prediction", "1.60"),
    ]
    assert len(account(make("", [("Up.", 0.5)], [], 1.504)).steps) == 3


def test_many_sentences_keep_the_largest_and_add_up_the_others() -> None:
    moves = [(f"S{i}.", (-1) ** i * i / 100) for i in range(1, 14)]
    steps = account(make("", moves, [], 1.0 + sum(v for _, v in moves))).steps
    labels = [s.label for s in steps[1:-1]]
    assert labels == [*(f"S{i}." for i in range(5, 14)), "4 other sentences together"]
    assert steps[-2].value == "+0.02"  # -1 + 2 - 3 + 4 hundredths
    assert steps[-1].value == "0.93"


def test_equal_words_are_added_up_and_full_colour_is_the_same_on_every_page() -> None:
    text = "Neon sky, neon sea."
    shown = account(make(text, [], [("Neon", 0.25), ("sky", -0.1), ("neon", 0.5), ("sea", 2.0)], 1.0))
    assert [(w.text, w.times, w.value) for w in shown.words] == [
        ("sea", 1, "+2.00"),
        ("neon", 2, "+0.75"),
        ("sky", 1, "−0.10"),
    ]
    assert [(s.text, s.sign, s.strength) for s in shown.segments] == [
        ("Neon", "pos", "0.50"),
        (" ", "", "0"),
        ("sky", "neg", "0.20"),
        (", ", "", "0"),
        ("neon", "pos", "1.00"),
        (" ", "", "0"),
        ("sea", "pos", "1.00"),
        (".", "", "0"),
    ]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("one two  three\nfour", "one two three…"),
        ("one two", "one two"),
        ("ネオンの街に二人が立っている。全体", "ネオンの街に二人が立っている。…"),
        ("", ""),
    ],
)
def test_excerpts_end_at_a_word_where_there_is_one(text: str, short: str) -> None:
    assert items.excerpt(text, 16) == short


def test_secrets_in_urls_are_neither_shown_nor_linked() -> None:
    plain = "https://a.example/1.jpg"
    rows = [
        {
            "row": 0,
            "source": "https://user:secret@a.example/1.jpg",
            "target": 1.0,
            "poster": "https://a.example/?k=secret",
        },
        {
            "row": 1,
            "source": "https://a.example/1.jpg?X-Amz-Signature=secret",
            "target": 1.0,
            "poster": "of s3://k:secret@b/1",
        },
        {"row": 2, "source": plain, "target": 1.0, "poster": plain, "empty": "", "year": 1999},
        {"row": 3, "source": None, "target": 1.0, "poster": None},
    ]
    assert items.ride_along(items.Item("a", "a", "a", "", rows, 1.0, None, None, None)) == [
        [("row", "0", None), ("source", plain, None), ("poster", "https://a.example/?***", None)],
        [("row", "1", None), ("source", f"{plain}?***", None), ("poster", "of s3://b/1", None)],
        [("row", "2", None), ("source", plain, plain), ("poster", plain, plain), ("year", "1999", None)],
        [("row", "3", None)],
    ]
