"""The stage over real models of random weights; sentences' interactions against games worked out by hand."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seewhy import schema
from seewhy.explain import ExplainWords, read_part, sentence_interactions
from seewhy.failure import Fatal
from seewhy.shapley import owen_values, text_predict
from seewhy.train.text_model import TextFacts, TextModel
from tests.text_models import CORPUS, RandomReader, bytelevel, reader, wordpiece


class Shelf:
    """Three folds' models by folder name, and which were asked for."""

    def __init__(self, *, outputs: int = 1) -> None:
        self.tokenizer = wordpiece()
        self.models = {f"fold-{i}": reader(self.tokenizer, outputs=outputs, seed=i) for i in range(3)}
        self.asked: list[str] = []

    def __call__(self, folder: str):
        self.asked.append(folder)
        return self.models[folder], self.tokenizer

    def stage(self, **settings) -> ExplainWords:
        return ExplainWords(models=list(self.models), load=self, device="cpu", **{"max_evals": 30, **settings})


def batch(texts: Sequence[str | None], folds: Sequence[int | None]) -> pa.Table:
    return pa.table(
        {
            "id": [f"{i:032x}" for i in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            "fold": pa.array(folds, pa.int32()),
        }
    )


def test_each_row_is_explained_by_its_own_folds_model_in_the_order_of_the_rows():
    shelf = Shelf()
    texts = [CORPUS[0], CORPUS[1], "", CORPUS[0], "dark", None, " \n"]
    folds = [2, 0, 1, 0, 1, 2, 0]
    table = shelf.stage()(batch(texts, folds))
    assert table.schema == schema.EXPLANATIONS
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [f"{i:032x}" for i in range(7)]
    assert [row["fold"] for row in rows] == folds
    for row, text, fold in zip(rows, texts, folds, strict=True):
        if text is None or not text.strip():
            assert (row["error_kind"], row["reason"], row["words"]) == ("bad_input", "empty_text", None)
            continue
        predict = text_predict(shelf.models[f"fold-{fold}"], shelf.tokenizer)
        (expected,) = owen_values([text], predict=predict, tokenizer=shelf.tokenizer, max_evals=30)
        assert (row["error_kind"], row["reason"], row["detail"]) == (None, None, None)
        np.testing.assert_allclose([span["values"] for span in row["tokens"]], expected.values, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(row["outputs"], predict([text])[0], rtol=1e-6)
        np.testing.assert_allclose(row["base_values"], expected.base_values, rtol=1e-6)
        assert row["evaluations"] == expected.evaluations
        assert row["residual"] < 1e-9
        for level in ("tokens", "words", "phrases", "sentences"):
            total = row["base_values"][0] + sum(span["values"][0] for span in row[level])
            assert total == pytest.approx(row["outputs"][0], abs=1e-5)
            assert all(text[span["start"] : span["end"]] == span["text"] for span in row[level])
    assert [span["text"] for span in rows[0]["words"]][:3] == ["The", "image", "is"]
    assert rows[0]["outputs"] != rows[3]["outputs"]  # the same text, another fold


def test_a_classifier_is_explained_in_probabilities():
    shelf = Shelf(outputs=3)
    (row,) = shelf.stage()(batch([CORPUS[1]], [1])).to_pylist()
    assert sum(row["outputs"]) == pytest.approx(1)
    assert all(0 < value < 1 for value in row["outputs"] + row["base_values"])
    for span in row["words"]:
        assert sum(span["values"]) == pytest.approx(0, abs=1e-6)


def test_models_load_when_first_needed_and_no_more_are_kept_than_asked():
    shelf = Shelf()
    stage = shelf.stage(models_in_memory=2)
    assert shelf.asked == []
    stage(batch(["dark", "dark"], [1, 0]))
    assert shelf.asked == ["fold-0", "fold-1"]
    stage(batch(["dark", "dark"], [1, 0]))
    assert shelf.asked == ["fold-0", "fold-1"]
    stage(batch(["dark", "dark"], [2, 1]))  # fold 1 is at hand and goes first; fold 2 pushes fold 0 out
    assert shelf.asked == ["fold-0", "fold-1", "fold-2"]
    stage(batch(["dark", "dark"], [0, 1]))  # fold 1 first, though the longest unused and the later one
    assert shelf.asked == ["fold-0", "fold-1", "fold-2", "fold-0"]


def test_a_row_of_no_known_fold_stops_the_job():
    for fold in (3, -1, None):
        with pytest.raises(Fatal, match=f"fold {fold}: there are models for folds 0 to 2"):
            Shelf().stage()(batch(["dark"], [fold]))


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="models"):
        ExplainWords(models=[])
    with pytest.raises(ValueError, match="models_in_memory=0"):
        ExplainWords(models=["a"], models_in_memory=0)


def test_a_model_that_answers_no_number_is_a_failed_row_beside_good_ones():
    shelf = Shelf()
    dark = shelf.tokenizer("dark")["input_ids"][1]

    class Broken(RandomReader):
        def forward(self, input_ids, attention_mask):
            out = super().forward(input_ids, attention_mask)
            return out.masked_fill((input_ids == dark).any(1, keepdim=True), float("nan"))

    shelf.models["fold-0"] = Broken(vocabulary=len(shelf.tokenizer) + 8, outputs=1, seed=0)
    bad, good = shelf.stage()(batch(["a dark field", "a field"], [0, 0])).to_pylist()
    assert (bad["error_kind"], bad["reason"]) == ("bad_input", "not_finite")
    assert good["error_kind"] is None


@pytest.mark.parametrize(
    ("scale", "residual", "ok"),
    [
        (0.0, 0.0009, True),
        (0.0, 0.0011, False),
        (1000.0, 0.5, True),  # of 1,000 a thousandth is 1
        (-1000.0, 0.5, True),
        (1000.0, 1.5, False),
    ],
)
def test_values_that_do_not_add_up_are_a_failed_row_beside_good_ones(monkeypatch, scale, residual, ok):
    def broken(texts, **settings):
        bad, good = owen_values(texts, **settings)
        shifted = {"base_values": bad.base_values * 0, "outputs": bad.outputs * 0 + scale}
        return [dataclasses.replace(bad, residual=residual, **shifted), good]

    monkeypatch.setattr("seewhy.explain.owen_values", broken)
    bad, good = Shelf().stage()(batch(["a dark field", "a field"], [0, 0])).to_pylist()
    assert good["error_kind"] is None
    if ok:
        assert bad["error_kind"] is None
    else:
        assert (bad["error_kind"], bad["reason"], bad["words"]) == ("rejected", "not_additive", None)
        allowed = "1" if scale else "0.001"
        assert bad["detail"] == f"base value and values miss the prediction by {residual}, {allowed} is allowed"


def test_float32_rounding_of_targets_around_1000_adds_up():
    shelf = Shelf()

    class Large(RandomReader):
        def forward(self, input_ids, attention_mask):
            return (1000 + 300 * super().forward(input_ids, attention_mask)).float()

    shelf.models["fold-0"] = Large(vocabulary=len(shelf.tokenizer) + 8, outputs=1, seed=0)
    rows = shelf.stage(max_evals=200)(batch(CORPUS[:3], [0, 0, 0])).to_pylist()
    assert [row["error_kind"] for row in rows] == [None] * 3
    assert all(abs(row["outputs"][0]) > 300 for row in rows)


@pytest.mark.parametrize("kind", ["wordpiece", "bytelevel"])
def test_a_long_text_is_explained_up_to_where_the_model_reads(kind):
    tokenizer = wordpiece() if kind == "wordpiece" else bytelevel(masks=True)
    text = " ".join([CORPUS[0]] * 5)
    part = read_part(text, tokenizer=tokenizer, max_length=40)
    assert text.startswith(part)
    assert text[len(part)] == " "  # at a word's end
    assert 36 <= len(tokenizer(part)["input_ids"]) <= 40
    assert read_part(part, tokenizer=tokenizer, max_length=40) == part

    model = reader(tokenizer)
    stage = ExplainWords(models=["m"], load=lambda _: (model, tokenizer), device="cpu", max_length=40, max_evals=40)
    (row,) = stage(batch([text], [0])).to_pylist()
    assert row["error_kind"] is None
    assert row["detail"] == f"the model reads the first {len(part)} of {len(text)} characters"
    assert row["words"][-1]["end"] == len(part)
    predict = text_predict(model, tokenizer, max_length=40)
    (expected,) = owen_values([part], predict=predict, tokenizer=tokenizer, max_evals=40)
    np.testing.assert_allclose([span["values"] for span in row["tokens"]], expected.values, rtol=1e-5, atol=1e-8)


def test_a_saved_text_model_is_read_from_its_folder(tmp_path):
    tokenizer = wordpiece()
    torch.manual_seed(3)
    encoder = reader(tokenizer).float().encoder
    model = TextModel(encoder, TextFacts(pooling="mean", mean=6.5, sd=2.0, max_length=24)).eval()
    model.head.weight.data.normal_()
    model.save_pretrained(tmp_path / "fold-0")
    tokenizer.save_pretrained(tmp_path / "fold-0")
    stage = ExplainWords(models=[str(tmp_path / "fold-0")], device="cpu", max_evals=60)
    text = CORPUS[0] + " " + CORPUS[1]
    (row,) = stage(batch([text], [0])).to_pylist()
    part = read_part(text, tokenizer=tokenizer, max_length=24)
    assert len(part) < len(text)
    assert row["detail"].startswith(f"the model reads the first {len(part)} ")
    ids = torch.tensor([tokenizer(part)["input_ids"]])
    assert row["outputs"][0] == pytest.approx(model(ids, torch.ones_like(ids)).item(), abs=1e-4)


# interactions

NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def told(count: int) -> str:
    return " ".join(f"The {name}." for name in NAMES[:count])


def polynomial(*terms: tuple[float, str]):
    """A model whose output is a sum of weights, each given when all its words are shown."""

    def predict(strings: Sequence[str]) -> np.ndarray:
        found = []
        for string in strings:
            shown = set(string.lower().replace(".", " ").split())
            found.append([sum(weight for weight, words in terms if set(words.split()) <= shown), len(shown)])
        return np.array(found, dtype=float)

    return predict


def expected_index(count: int, *terms: tuple[float, str]) -> np.ndarray:
    """A term over m sentences gives each pair of them weight / (m - 1) and each of them weight / m."""
    index = np.zeros((count, count))
    for weight, words in terms:
        places = [NAMES.index(word) for word in words.split()]
        for i in places:
            index[i, i] += weight / len(places)
            for j in places:
                if i != j:
                    index[i, j] += weight / (len(places) - 1)
    return index


def words_tokenizer():
    vocab = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[MASK]", "The", ".", *NAMES])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]")


TERMS = [(2.0, "one"), (5.0, "one two"), (-3.0, "two three"), (6.0, "one three four")]


def test_exact_interactions_of_a_game_worked_out_by_hand():
    found = sentence_interactions(told(4), predict=polynomial(*TERMS), tokenizer=words_tokenizer())
    # the triple of 6 gives each of its pairs 3 and each of its sentences 2
    np.testing.assert_allclose(found, [[6.5, 5, 3, 3], [5, 1, -3, 0], [3, -3, 0.5, 3], [3, 0, 3, 2]], atol=1e-12)
    np.testing.assert_allclose(found, expected_index(4, *TERMS), atol=1e-12)


def test_drawn_interactions_are_exact_where_only_pairs_interact():
    terms = [*TERMS[:3], (7.0, "nine ten")]
    found = sentence_interactions(told(10), predict=polynomial(*terms), tokenizer=words_tokenizer(), rounds=1)
    off = ~np.eye(10, dtype=bool)
    np.testing.assert_allclose(found[off], expected_index(10, *terms)[off], atol=1e-12)
    assert np.trace(found) == pytest.approx(2 + 5 - 3 + 7)  # the output less the base value


def test_drawn_interactions_approach_the_exact_ones_also_for_an_even_number_of_sentences():
    for count in (5, 6):
        exact = sentence_interactions(told(count), predict=polynomial(*TERMS), tokenizer=words_tokenizer())
        drawn = sentence_interactions(
            told(count), predict=polynomial(*TERMS), tokenizer=words_tokenizer(), max_exact=2, rounds=600
        )
        np.testing.assert_allclose(drawn, exact, atol=0.25)
        np.testing.assert_array_equal(drawn, drawn.T)


def test_interactions_of_a_real_model_pick_an_output_and_add_up():
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=3), tokenizer)
    text = CORPUS[1] + " " + CORPUS[0]
    found = sentence_interactions(text, predict=predict, tokenizer=tokenizer, output=2)
    assert found.shape == (3, 3)
    (whole,) = owen_values([text], predict=predict, tokenizer=tokenizer, max_evals=2)
    assert np.trace(found) == pytest.approx(whole.outputs[2] - whole.base_values[2])
    assert np.abs(found[~np.eye(3, dtype=bool)]).min() > 1e-6
    other = sentence_interactions(text, predict=predict, tokenizer=tokenizer, output=0)
    assert np.abs(found - other).max() > 1e-3


def test_texts_of_one_sentence_or_none():
    tokenizer = words_tokenizer()
    assert sentence_interactions(" ", predict=polynomial(), tokenizer=tokenizer).shape == (0, 0)
    found = sentence_interactions(told(1), predict=polynomial((2.0, "one")), tokenizer=tokenizer)
    np.testing.assert_allclose(found, [[2.0]])
