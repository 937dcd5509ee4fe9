"""Words, phrases and sentences where they can be told by hand; sums and coverage as laws over any text."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.shapley import owen_values, text_predict
from seewhy.words.spans import levels, phrase_ranges, sentence_ranges, token_offsets, word_ranges
from tests.text_models import CORPUS, bytelevel, characters, reader, sentencepiece, wordpiece


def cut(text: str, ranges: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in ranges]


def phrases(text: str) -> list[str]:
    return cut(text, phrase_ranges(text, words=word_ranges(text), sentences=sentence_ranges(text)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A well-lit, dark-ish scene.", ["A", "well-lit", ",", "dark-ish", "scene", "."]),
        ("Don’t it's 'quoted'", ["Don’t", "it's", "'", "quoted", "'"]),
        ("3.5 at 10:30, 1,000.", ["3.5", "at", "10:30", ",", "1,000", "."]),
        ("naïve हिन्दी में cafe\u0301", ["naïve", "हिन्दी", "में", "cafe\u0301"]),
        ("❤️ 👩‍👩‍👧!", ["❤️", "👩‍👩‍👧!"]),
        ("电影 poster", ["电", "影", "poster"]),
        ("赤い傘を持つ女性。", ["赤い", "傘", "を", "持つ", "女性", "。"]),
        ("ملصق فيلم", ["ملصق", "فيلم"]),
        (" \n\t ", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert cut(text, word_ranges(text)) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('He runs. "Why?" he asks! 3.5 stars', ["He runs.", '"Why?"', "he asks!", "3.5 stars"]),
        ("Mr. J. Smith vs. Dr. No. The end.", ["Mr. J. Smith vs. Dr. No.", "The end."]),
        ("1. Dark sky\n2. Bright sea\n\n- Calm", ["1. Dark sky", "2. Bright sea", "- Calm"]),
        ("暗い空。「静か。」明るい海！終わり", ["暗い空。", "「静か。」", "明るい海！", "終わり"]),
        ("Calm... and dark .", ["Calm...", "and dark ."]),
        ("-- Hi. -- ", ["-- Hi. --"]),
        ("...", ["..."]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert cut(text, sentence_ranges(text)) == sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A dark, calm sea and a boat (small) at 10:30.",
            ["A dark,", "calm sea", "and a boat", "(small)", "at 10:30."],
        ),
        ("And it ends: brand, sandy", ["And it ends:", "brand,", "sandy"]),  # no conjunction inside a word
        ("The sea - calm – waits. Or not", ["The sea -", "calm –", "waits.", "Or not"]),
        ("A black-and-white film", ["A black-and-white film"]),  # nor inside a compound
        ("海辺に、赤い傘。女性が", ["海辺に、", "赤い傘。", "女性が"]),
    ],
)
def test_phrases(text, expected):
    assert phrases(text) == expected


def values_of(found) -> list[tuple[str, list[float]]]:
    return [(span.text, span.values.tolist()) for span in found]


def test_sums_worked_out_by_hand():
    text = "Unlit, sea. Sky"
    #        [CLS]   un      ##lit   ,       sea      .         sky       [SEP]
    offsets = [(0, 0), (0, 2), (2, 5), (5, 6), (7, 10), (10, 11), (12, 15), (0, 0)]
    values = np.array([[1, -1], [2, 0], [4, 0], [8, 0], [16, 0], [32, 0], [64, 0], [128, 5]], dtype=float)
    found = levels(text, offsets, values)
    assert [span.text for span in found.tokens] == ["", "Un", "lit", ",", "sea", ".", "Sky", ""]
    # [CLS] goes with the token behind it, [SEP], with none behind it, with the one before
    expected = [("Unlit", [7, -1]), (",", [8, 0]), ("sea", [16, 0]), (".", [32, 0]), ("Sky", [192, 5])]
    assert values_of(found.words) == expected
    assert values_of(found.phrases) == [("Unlit,", [15, -1]), ("sea.", [48, 0]), ("Sky", [192, 5])]
    assert values_of(found.sentences) == [("Unlit, sea.", [63, -1]), ("Sky", [192, 5])]


def test_a_token_across_two_words_joins_them_and_a_bare_space_goes_with_what_follows():
    text = "ab cd. ef"
    offsets = [(0, 1), (1, 4), (4, 6), (6, 7), (6, 9)]  # "b c" straddles; " " alone; " ef" with its space
    found = levels(text, offsets, np.array([[1], [2], [4], [8], [16]], dtype=float))
    assert values_of(found.words) == [("ab cd.", [7.0]), ("ef", [24.0])]
    assert [(span.text, span.start, span.end) for span in found.tokens][1:4] == [
        ("b c", 1, 4),
        ("d.", 4, 6),
        ("", 6, 6),
    ]
    joined = levels(text, [(0, 9)], np.array([[1.0]]))
    assert values_of(joined.sentences) == [(text, [1.0])]


def test_two_tokens_of_one_character_both_count():
    found = levels("🎬 a", [(0, 1), (0, 1), (0, 1), (1, 3)], np.array([[1], [2], [4], [8]], dtype=float))
    assert values_of(found.words) == [("🎬", [7.0]), ("a", [8.0])]


def test_a_word_without_a_token_is_there_with_nothing():
    assert values_of(levels("a b", [(2, 3)], np.array([[1.0]])).words) == [("a", [0.0]), ("b", [1.0])]


def test_offsets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 offsets for 1"):
        levels("ab", [(0, 1), (1, 2)], np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"\(1, 9\) is outside the text of 2"):
        levels("ab", [(0, 1), (1, 9)], np.zeros((2, 1)))


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "gpt2", "characters", "sentencepiece"])
def test_every_level_sums_to_the_tokens_for_real_tokenizers_and_a_budget_that_ran_out(kind, tmp_path):
    made = {
        "wordpiece": wordpiece,
        "roberta": lambda: bytelevel(masks=True),
        "gpt2": lambda: bytelevel(masks=False),
        "characters": lambda: characters(tmp_path),
        "sentencepiece": sentencepiece,
    }
    tokenizer = made[kind]()
    predict = text_predict(reader(tokenizer, outputs=2), tokenizer)
    texts = [*CORPUS, "dark", "  The\n image ", CORPUS[2] + " " + CORPUS[0]]
    for row in owen_values(texts, predict=predict, tokenizer=tokenizer, max_evals=12):
        offsets = token_offsets(row.text, tokenizer=tokenizer, segments=row.segments)
        found = levels(row.text, offsets, row.values)
        assert len(found.tokens) == len(row.segments)
        for spans in (found.words, found.phrases, found.sentences):
            np.testing.assert_allclose(sum(span.values for span in spans), row.outputs - row.base_values, atol=1e-9)
            assert all(span.text == row.text[span.start : span.end] for span in spans)
        if kind == "wordpiece" and row.text == CORPUS[0]:
            assert [span.text for span in found.words][:4] == ["The", "image", "is", "a"]


def test_pieces_without_offsets_are_found_in_the_text(tmp_path):
    tokenizer = characters(tmp_path)
    text = "Ａ dark 傘\u200b!"
    segments = ["", " a", " d", " a", " r", " k", " [UNK]", " !", ""]
    offsets = token_offsets(text, tokenizer=tokenizer, segments=segments)
    assert offsets == [(0, 0), (0, 1), (2, 3), (3, 4), (4, 5), (5, 6), (6, 6), (9, 10), (10, 10)]


letters = st.text(alphabet=st.sampled_from("aB9 .,、。！「」(–-'\n傘のアé\u0301🎬❤️…ا"), max_size=60)


@settings(max_examples=200, deadline=None)
@given(text=letters | st.text(max_size=40), data=st.data())
def test_any_text_is_covered_in_order_and_sums_hold(text, data):
    words, sentences = word_ranges(text), sentence_ranges(text)
    inner = phrase_ranges(text, words=words, sentences=sentences)
    for ranges in (words, inner, sentences):
        flat = [place for pair in ranges for place in pair]
        assert flat == sorted(flat)
        covered = {place for start, end in ranges for place in range(start, end)}
        assert {i for i, letter in enumerate(text) if not letter.isspace()} <= covered
    assert all(any(a <= start and end <= b for a, b in sentences) for start, end in inner)
    edges = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    offsets = [(0, 0), *itertools.pairwise(edges), (0, 0)]
    values = np.array(data.draw(st.lists(st.integers(-99, 99), min_size=len(offsets), max_size=len(offsets))))
    found = levels(text, offsets, values[:, None].astype(float))
    for spans in (found.words, found.phrases, found.sentences):
        assert sum(span.values[0] for span in spans) == (values.sum() if text.strip() else 0)
