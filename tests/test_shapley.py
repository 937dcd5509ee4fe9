"""The values against hand-made games and against shap itself; the batching against one text at a time."""

import functools
import re
from collections.abc import Sequence

import numpy as np
import pytest
import shap
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seewhy.shapley import MaskedText, owen_values, text_masker, text_predict, to_shap
from tests.text_models import CORPUS, bytelevel, characters, reader, sentencepiece, wordpiece

TEXTS = {
    "caption": CORPUS[0],
    "two sentences": CORPUS[1],
    "one token": "dark",
    "empty": "",
    "blank": "  \n ",
    "japanese": CORPUS[2],
    "arabic": CORPUS[3],
    "emoji": CORPUS[4],
    "written separators": "dark [SEP] and [SEP], </s> field</s>, [MASK] a [CLS] (unclosed",
    "written word starts": "a dark▁field ▁ image",
    "a separator first": "[SEP] dark field of a family",  # shap reuses an output there that it should not
    "spaces and case": "  THE   Image\tis\n\n a   field ...  ",
    "nul": "dark\0 field\0",
}


@pytest.fixture(scope="module", params=["wordpiece", "roberta", "gpt2", "characters", "sentencepiece"])
def tokenizer(request, tmp_path_factory):
    return {
        "wordpiece": wordpiece,
        "roberta": lambda: bytelevel(masks=True),
        "gpt2": lambda: bytelevel(masks=False),
        "characters": lambda: characters(tmp_path_factory.mktemp("characters")),
        "sentencepiece": sentencepiece,
    }[request.param]()


def by_shap(predict, tokenizer, texts, *, names=None, **settings) -> shap.Explanation:
    """With a function that sees the texts as shap hands them over, as an array of strings."""
    masker = tokenizer if tokenizer.is_fast else text_masker(tokenizer)
    explainer = shap.Explainer(lambda strings: predict([str(s) for s in strings]), masker, output_names=names)
    return explainer(texts, silent=True, **settings)


def shap_can(tokenizer, text: str) -> bool:
    """shap fails where a text has no token or one."""
    return len(tokenizer(text)["input_ids"]) > 1


# games worked out by hand


@functools.cache
def one_word_one_token() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "a": 3, "b": 4, "c": 5}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]")


def game(strings: Sequence[str]) -> np.ndarray:
    """Output 0: 1 + 2a + 3b + 4ab. Output 1: 6abc. Each letter stands for 'its token is shown'."""
    shown = [{letter: letter in text.replace("[MASK]", "") for letter in "abc"} for text in strings]
    return np.array(
        [[1 + 2 * s["a"] + 3 * s["b"] + 4 * (s["a"] and s["b"]), 6 * (s["a"] and s["b"] and s["c"])] for s in shown]
    )


def test_owen_values_of_a_game_worked_out_by_hand():
    found = owen_values(["a b c"], predict=game, tokenizer=one_word_one_token())[0]
    assert found.segments == ("a ", "b ", "c")
    assert found.clustering[0, :2].tolist() == [0, 1]  # a and b are joined first, so (a, b) stands against c
    # output 0: a and b share their interaction of 4. Output 1: (a, b) and c get 3 each, a and b halve theirs;
    # Shapley's values without the tree would be 2, 2, 2
    np.testing.assert_allclose(found.values, [[4, 1.5], [5, 1.5], [0, 3]])
    np.testing.assert_allclose(found.base_values, [1, 0])
    np.testing.assert_allclose(found.outputs, [10, 6])
    assert found.residual == 0
    assert found.evaluations == 2 + 2 + 4  # all and none; the root's two; two for (a, b) in each of its contexts


def test_a_budget_of_two_leaves_the_change_on_the_root_and_spreads_it_evenly():
    found = owen_values(["a b c"], predict=game, tokenizer=one_word_one_token(), max_evals=2)[0]
    np.testing.assert_allclose(found.values, [[3, 2]] * 3)
    np.testing.assert_allclose(found.node_values[-1], [9, 6])
    assert found.evaluations == 2


def test_closed_nodes_spread_by_their_number_of_tokens():
    found = owen_values(["a b c"], predict=game, tokenizer=one_word_one_token(), max_evals=4)[0]
    np.testing.assert_allclose(found.values, [[4.5, 1.5], [4.5, 1.5], [0, 3]])


def test_texts_of_no_token_or_one_that_shap_cannot_take():
    empty, single = owen_values(["", "a"], predict=game, tokenizer=one_word_one_token())
    assert empty.values.shape == (0, 2)
    np.testing.assert_allclose(empty.outputs, [1, 0])
    np.testing.assert_allclose(empty.base_values, [1, 0])
    np.testing.assert_allclose(single.values, [[2, 0]])
    np.testing.assert_allclose(single.outputs, [3, 0])
    assert (empty.residual, single.residual) == (0, 0)


# against shap


def test_masked_strings_are_those_of_the_masker(tokenizer):
    masker = text_masker(tokenizer)
    rng = np.random.default_rng(0)
    for name, text in TEXTS.items():
        if not shap_can(tokenizer, text):
            continue
        masked = MaskedText(text, masker)
        masks = rng.random((40, masked.tokens)) < rng.random((40, 1))
        expected = [str(masker(mask, text)[0][0]) for mask in masks]
        assert masked.strings(masks) == expected, name


@pytest.mark.parametrize(("max_evals", "row_batch_size"), [(500, 5), (60, 10), (37, 1)])
def test_values_equal_shaps(tokenizer, max_evals, row_batch_size):
    predict = text_predict(reader(tokenizer), tokenizer, tokens_per_batch=300)
    texts = [text for text in TEXTS.values() if shap_can(tokenizer, text)]
    expected = by_shap(predict, tokenizer, texts, max_evals=max_evals, batch_size=row_batch_size)
    settings = {"max_evals": max_evals, "row_batch_size": row_batch_size, "rows_in_flight": 4}
    found = owen_values(texts, predict=predict, tokenizer=tokenizer, **settings)
    for i, row in enumerate(found):
        np.testing.assert_allclose(row.values, np.asarray(expected.values[i], dtype=float), atol=1e-9, err_msg=row.text)
        np.testing.assert_allclose(row.base_values, expected.base_values[i], atol=1e-9)
        assert list(row.segments) == list(expected.data[i])
        np.testing.assert_array_equal(row.clustering, np.asarray(expected.clustering[i], dtype=float))
        assert row.residual < 1e-9
    assert max(np.abs(row.values).max() for row in found) > 0.01  # the models do read


def test_row_batch_size_defaults_to_shaps():
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer), tokenizer)
    expected = by_shap(predict, tokenizer, [CORPUS[1]], max_evals=50)
    (found,) = owen_values([CORPUS[1]], predict=predict, tokenizer=tokenizer, max_evals=50)
    np.testing.assert_allclose(found.values, expected.values[0], atol=1e-9)
    (other,) = owen_values([CORPUS[1]], predict=predict, tokenizer=tokenizer, max_evals=50, row_batch_size=20)
    assert np.abs(other.values - found.values).max() > 1e-4  # so the equality above says something


@pytest.mark.parametrize("outputs", [2, 5])
def test_models_of_many_outputs_equal_shaps(outputs):
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=outputs, seed=outputs), tokenizer, softmax=True)
    texts = [CORPUS[0], CORPUS[2], "dark"]
    expected = by_shap(predict, tokenizer, texts, max_evals=120)
    for i, row in enumerate(owen_values(texts, predict=predict, tokenizer=tokenizer, max_evals=120)):
        assert row.values.shape == (len(row.segments), outputs)
        np.testing.assert_allclose(row.values, np.asarray(expected.values[i], dtype=float), atol=1e-9)
        np.testing.assert_allclose(row.outputs.sum(), 1)  # probabilities: the values of all classes cancel
        np.testing.assert_allclose(row.values.sum(axis=1), 0, atol=1e-9)


def test_a_text_of_500_tokens_equals_shaps():
    tokenizer = wordpiece()
    rng = np.random.default_rng(5)
    words = re.findall(r"[a-z]+|[.,]", " ".join(CORPUS[:2]).lower())
    text = " ".join(rng.choice(words, 510))
    assert len(tokenizer(text)["input_ids"]) > 500
    predict = text_predict(reader(tokenizer), tokenizer, max_length=500)
    expected = by_shap(predict, tokenizer, [text], max_evals=150)
    (found,) = owen_values([text], predict=predict, tokenizer=tokenizer, max_evals=150)
    np.testing.assert_allclose(found.values, expected.values[0], atol=1e-9)


def test_a_float32_model_agrees_within_a_ten_thousandth():
    tokenizer = wordpiece()
    model = reader(tokenizer, outputs=2).float()
    expected = by_shap(text_predict(model, tokenizer), tokenizer, CORPUS[:3], max_evals=500)
    predict = text_predict(model, tokenizer, tokens_per_batch=5000)
    for i, row in enumerate(owen_values(CORPUS[:3], predict=predict, tokenizer=tokenizer, max_evals=500)):
        np.testing.assert_allclose(row.values, np.asarray(expected.values[i], dtype=float), atol=1e-4)
        assert row.residual < 1e-6


# lockstep


def test_many_rows_share_calls_and_nothing_is_read_twice():
    tokenizer = wordpiece()
    inner = text_predict(reader(tokenizer), tokenizer)
    calls: list[list[str]] = []

    def predict(strings):
        calls.append(list(strings))
        return inner(strings)

    texts = [CORPUS[0], CORPUS[1], CORPUS[0], "", ""]
    together = owen_values(texts, predict=predict, tokenizer=tokenizer, max_evals=100, rows_in_flight=8)
    assert all(len(call) == len(set(call)) for call in calls)
    rounds = len(calls)
    calls.clear()
    alone = [owen_values([text], predict=predict, tokenizer=tokenizer, max_evals=100)[0] for text in texts]
    assert rounds == 1 + -(-98 // 6)  # one call for all and none, then six masked texts of each row at a time
    assert len(calls) > 3 * rounds
    calls.clear()
    owen_values([CORPUS[0]], predict=predict, tokenizer=tokenizer, max_evals=100)
    read = [string for call in calls for string in call]
    assert len(read) == len(set(read)) < 100
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_allclose(many.values, one.values, atol=1e-12)
        assert many.evaluations == one.evaluations


def test_rows_in_flight_bounds_the_size_of_a_call():
    sizes = []

    def predict(strings):
        sizes.append(len(strings))
        return game(strings)

    texts = ["a b c", "b c a", "c a b", "a a b c", "b b a", "c c c"]
    owen_values(texts, predict=predict, tokenizer=one_word_one_token(), rows_in_flight=2, row_batch_size=2)
    assert max(sizes) <= 4
    assert len(sizes) > 6


def test_settings_and_outputs_out_of_range_are_named():
    tokenizer = one_word_one_token()
    for name, value in (("max_evals", 1), ("row_batch_size", 0), ("rows_in_flight", 0)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            owen_values(["a"], predict=game, tokenizer=tokenizer, **{name: value})
    with pytest.raises(ValueError, match=r"\(2,\) for 2 texts"):
        owen_values(["a b"], predict=lambda strings: np.zeros(len(strings)), tokenizer=tokenizer)


# text_predict


def test_padding_batches_and_order_do_not_change_an_output():
    tokenizer = wordpiece()
    model = reader(tokenizer, outputs=3)
    texts = [CORPUS[1], "dark", "", CORPUS[2], "a field", CORPUS[0]]
    expected = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        expected.append(model(ids, torch.ones_like(ids))[0].detach().numpy())
    shapes = []

    def watched(input_ids, attention_mask):
        shapes.append(tuple(input_ids.shape))
        assert attention_mask.sum(1).tolist() == sorted(attention_mask.sum(1).tolist(), reverse=True)
        return model(input_ids, attention_mask)

    found = text_predict(watched, tokenizer, tokens_per_batch=40)(texts)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert all(rows == 1 or rows * length <= 40 for rows, length in shapes)
    assert any(rows > 1 for rows, _ in shapes)


def test_long_texts_are_cut_and_softmax_is_of_each_row():
    tokenizer = wordpiece()
    model = reader(tokenizer, outputs=3)
    ids = torch.tensor([tokenizer(CORPUS[0], truncation=True, max_length=8)["input_ids"]])
    assert ids.shape == (1, 8)
    expected = model(ids, torch.ones_like(ids)).softmax(-1).detach().numpy()
    found = text_predict(model, tokenizer, max_length=8, softmax=True)(CORPUS[:1])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_text_without_any_token_can_be_read():
    tokenizer = bytelevel(masks=False)
    predict = text_predict(reader(tokenizer), tokenizer)
    assert tokenizer("")["input_ids"] == []
    empty, dark = owen_values(["", "dark"], predict=predict, tokenizer=tokenizer)
    assert np.isfinite(empty.outputs).all()
    assert empty.outputs[0] != dark.outputs[0]


# to_shap


def html(explanation: shap.Explanation) -> str:
    """The page of one text, with its random ids numbered, and rounding errors around zero, that have a colour, gone."""
    explanation.values = np.round(explanation.values, 9) + 0.0
    explanation.hierarchical_values = np.round(explanation.hierarchical_values, 9) + 0.0
    page = shap.plots.text(explanation, display=False)
    for i, name in enumerate(dict.fromkeys(re.findall(r"_([a-z]{20})(?=[_'\"()])", page))):
        page = page.replace(name, f"id{i}")
    return page


@pytest.mark.parametrize("outputs", [1, 3])
def test_shaps_text_plot_draws_the_same_page(outputs):
    pytest.importorskip("matplotlib", reason="shap's plots need it")
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=outputs), tokenizer)
    names = ["rating", "clicks", "sales"][:outputs]
    texts = [CORPUS[0], "dark <b>field</b>"]
    expected = by_shap(predict, tokenizer, texts, names=names, max_evals=80)
    found = to_shap(owen_values(texts, predict=predict, tokenizer=tokenizer, max_evals=80), output_names=names)
    number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
    for i, word in enumerate(("poster", "field")):
        mine, theirs = html(found[i]), html(expected[i])
        assert word in mine
        assert names[-1] in mine
        assert number.sub("#", mine) == number.sub("#", theirs)
        drawn = [np.array(number.findall(page), dtype=float) for page in (mine, theirs)]
        np.testing.assert_allclose(drawn[0], drawn[1], atol=2e-3)
    assert len(shap.plots.text(found, display=False)) > len(shap.plots.text(found[0], display=False))
