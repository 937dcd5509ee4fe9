"""The text model and its training, on a random BERT: batches, units, files, predictions of rows not seen."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.train.fit import Recipe
from seewhy.train.folds import grouped_folds
from seewhy.train.text import TextTraining, load_text_model, train_text
from seewhy.train.text_model import TextFacts, TextModel, find_encoder
from seewhy.train.text_task import TextFolds, TextTask, length_grouped, tokenise
from tests.refusing_hub import refusing_hub
from tests.train.encoders import save_tiny_bert

COMMIT = "0123456789abcdef0123456789abcdef01234567"

TEXTS = [
    f"a {'dark' if i % 2 else 'bright'} scene {'with people, sky' if i % 3 else 'without people'}. {'man ' * (i % 5)}"
    for i in range(80)
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_a_hub_name_is_pinned_to_its_commit(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache laid out by hand: `main` points to one commit now and to another later."""
    cached = tmp_path / "models--someone--bert"
    for commit, layers in {"a" * 40: 1, "b" * 40: 2}.items():
        save_tiny_bert(cached / "snapshots" / commit, layers=layers)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = find_encoder("someone/bert")
    assert found.revision == "a" * 40
    assert found.identity == "someone/bert@" + "a" * 40
    (cached / "refs" / "main").write_text("b" * 40)
    assert found.model().config.num_hidden_layers == 1
    assert find_encoder("someone/bert").model().config.num_hidden_layers == 2
    assert find_encoder("someone/bert", revision="a" * 40).revision == "a" * 40


def test_a_cached_encoder_is_not_asked_for_again(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub answers that there is no such model, as for one that was withdrawn or whose terms were changed."""
    snapshot = tmp_path / "models--someone--bert" / "snapshots" / COMMIT
    shutil.copytree(bert, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    known = find_encoder(bert).tokenizer()("a dark scene")["input_ids"]
    with refusing_hub(tmp_path, monkeypatch) as asked:
        for revision in (None, "main", COMMIT):
            found = find_encoder("someone/bert", revision=revision)
            assert (found.revision, found.identity) == (COMMIT, f"someone/bert@{COMMIT}")
            assert found.tokenizer()("a dark scene")["input_ids"] == known
            assert found.model().config.hidden_size == 32
        assert [path for path in asked if "someone" in path] == []

        (snapshot / "model.safetensors").rename(tmp_path / "weights")  # a download that was killed: the hub is needed
        with pytest.raises(Fatal, match="Repository Not Found"):
            find_encoder("someone/bert")
        (tmp_path / "weights").rename(snapshot / "model.safetensors")
        for name in ("tokenizer.json", "tokenizer_config.json"):  # weights that were fetched without the tokenizer
            (snapshot / name).unlink()
        with pytest.raises(Fatal, match="not a valid model identifier"):
            find_encoder("someone/bert")


def test_a_folder_without_its_tokenizer_is_refused(bert: str, tmp_path: Path) -> None:
    """transformers would make one up that knows no word."""
    folder = shutil.copytree(bert, tmp_path / "bert", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(Fatal, match="hold no vocabulary"):
        find_encoder(str(folder))


def test_an_encoder_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    """transformers would make up the missing ones; a pooler may be missing, for it is not used."""
    folder = Path(save_tiny_bert(tmp_path))
    weights = load_file(folder / "model.safetensors")
    without_pooler = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(without_pooler) == len(weights) - 2
    save_file(without_pooler, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = find_encoder(str(folder)).model().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in without_pooler.items())
    del without_pooler["encoder.layer.1.output.dense.weight"]
    save_file(without_pooler, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fatal, match=r"lack 1 weights of the encoder, encoder\.layer\.1\.output\.dense\.weight"):
        find_encoder(str(folder)).model()


def table(target: list[object], ids: list[str] | None = None) -> pa.Table:
    ids = ids or [f"{i:032x}" for i in range(80)]
    return pa.table({"row": range(100, 180), "id": ids, "text": TEXTS, "target": target})


NUMBERS: list[object] = [1000.0 + (300.0 if i % 2 else -300.0) + i % 7 for i in range(80)]
NAMES: list[object] = ["night" if i % 2 else "day" for i in range(80)]


def train(bert: str, out: Path, target: list[object], kind: str = "regression", **options: object) -> TextTraining:
    options = {
        "epochs": 6, "pooling": "mean", "learning_rate": 3e-3, "batch_size": 8, "launcher": "here", "folds": 4,
    } | options  # fmt: skip
    return train_text(table(target), kind=kind, out=str(out), encoder=bert, **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 120), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 3))
def test_every_row_is_in_one_batch_of_a_fair_size(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = length_grouped(np.array(lengths), batch_size=batch_size, seed=1, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    if len(lengths) >= batch_size:
        assert min(sizes) >= batch_size // 2
    again = length_grouped(np.array(lengths), batch_size=batch_size, seed=1, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert len(length_grouped(np.array(lengths), batch_size=batch_size, seed=1, epoch=9)) == len(batches)


def test_batches_hold_texts_of_like_length_and_change_with_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(10, 120, 2000)
    first, second = (length_grouped(lengths, batch_size=32, seed=0, epoch=epoch) for epoch in (0, 1))
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert padded < 1.15 * lengths.sum()  # shuffled alone it would be 1.8 times
    assert {tuple(sorted(b)) for b in first}.isdisjoint({tuple(sorted(b)) for b in second})
    rising = np.diff([lengths[batch].max() for batch in first]) > 0
    assert 0.3 < rising.mean() < 0.7  # long batches come at any time, not at the end of each pool


def test_tokens_are_the_tokenizers_and_cuts_are_counted(bert: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    texts = ["", "a dark scene", "man " * 6, "man " * 7, "暗い 🌙"]
    tokens = tokenise(tokenizer, texts, max_length=8)  # [CLS] and [SEP] leave room for six words
    assert tokens.truncated == 1
    batch = tokens.batch(np.array([2, 0, 4]))
    expected = tokenizer([texts[2], texts[0], texts[4]], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert tokens.batch(np.array([0]))["input_ids"].shape == (1, 2)  # no wider than its own longest


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_padding_changes_no_output(bert: str, pooling: str) -> None:
    model = TextModel(find_encoder(bert).model(), TextFacts(pooling, mean=50.0, sd=10.0)).eval()
    tokens = tokenise(AutoTokenizer.from_pretrained(bert), TEXTS, max_length=64)
    with torch.inference_mode():
        together = model(**tokens.batch(np.arange(80)))
        alone = torch.cat([model(**tokens.batch(np.array([i]))) for i in range(80)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    assert float(together.std()) > 0.01


def test_pooling_by_hand(bert: str) -> None:
    encoder = find_encoder(bert).model().eval()
    batch = tokenise(AutoTokenizer.from_pretrained(bert), ["a dark scene", "man"], max_length=64).batch(np.arange(2))
    hidden = encoder(**batch).last_hidden_state
    for pooling, pooled in {
        "first": hidden[:, 0],
        "mean": torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]),  # [CLS] man [SEP]
    }.items():
        model = TextModel(encoder, TextFacts(pooling, mean=5.0, sd=2.0)).eval()
        torch.testing.assert_close(model(**batch), model.head(pooled) * 2 + 5)
    with pytest.raises(ValueError, match="pooling is 'max'"):
        TextFacts("max")


def test_regression_in_the_targets_own_unit(bert: str, tmp_path: Path) -> None:
    """Targets near 1000 with a spread of 300, told by one word, at a rate that would never climb to 1000."""
    result = train(bert, tmp_path, NUMBERS)
    predictions = result.predictions
    assert predictions.schema == schema.PREDICTIONS
    assert predictions["row"].to_pylist() == list(range(100, 180))
    assert predictions["target"].to_pylist() == NUMBERS
    assert predictions["fold"].to_pylist() == grouped_folds(range(80), folds=4).tolist()
    said = np.array(predictions["outputs"].to_pylist())[:, 0]
    assert np.abs(said - np.array(NUMBERS)).max() < 100
    values = {(row["model"], row["metric"]): row["value"] for row in result.scores.to_pylist()}
    assert values[bert, "rmse"] == pytest.approx(np.sqrt(((said - np.array(NUMBERS)) ** 2).mean()), rel=1e-4)
    assert {model for model, _ in values} == {"mean", "ridge_words", bert}
    assert values["mean", "r2"] < 0
    assert result.verdict.baseline == "ridge_words"
    assert result.verdict.model == bert
    assert result.truncated == 0


def test_a_saved_model_says_what_the_training_said(bert: str, tmp_path: Path) -> None:
    result = train(bert, tmp_path, NUMBERS, epochs=2, chosen_folds=[1, 3])
    assert set(result.models) == {1, 3}
    rows = {row["row"]: row for row in result.predictions.to_pylist()}
    assert {row["fold"] for row in rows.values()} == {1, 3}
    for fold, folder in result.models.items():
        model, tokenizer = load_text_model(folder)
        assert not model.training
        inside = [number for number, row in rows.items() if row["fold"] == fold]
        batch = tokenizer([TEXTS[number - 100] for number in inside], padding=True, return_tensors="pt")
        with torch.inference_mode():
            said = model(batch["input_ids"], batch["attention_mask"])
        expected = torch.tensor([rows[number]["outputs"] for number in inside])
        torch.testing.assert_close(said, expected, atol=1e-3, rtol=0)
        train_targets = np.array([NUMBERS[i] for i in np.flatnonzero(grouped_folds(range(80), folds=4) != fold)])
        assert model.facts.mean == pytest.approx(train_targets.mean())
        assert model.facts.sd == pytest.approx(train_targets.std())
        assert AutoModel.from_pretrained(folder).config.hidden_size == 32  # a plain transformers folder too
        assert {path.suffix for path in Path(folder).iterdir()} == {".json", ".safetensors"}


def test_classes(bert: str, tmp_path: Path) -> None:
    result = train(bert, tmp_path, NAMES, "classification", classes=["night", "day", "dusk"])
    assert result.classes == ("night", "day", "dusk")
    probabilities = np.array(result.predictions["outputs"].to_pylist())
    assert probabilities.shape == (80, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    truth = [0 if name == "night" else 1 for name in NAMES]
    assert result.predictions["target"].to_pylist() == truth
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.95
    history = [row for row in result.history.to_pylist() if row["fold"] == 0]
    losses = {row["epoch"]: row["value"] for row in history if row["metric"] == "log_loss"}
    kept = {row["epoch"] for row in history if row["kept"]}
    assert kept == {min(losses, key=lambda epoch: losses[epoch])}
    model, tokenizer = load_text_model(result.models[0])
    assert model.facts.classes == ("night", "day", "dusk")
    batch = tokenizer(["a dark scene"], return_tensors="pt")
    assert model(batch["input_ids"], batch["attention_mask"]).softmax(1)[0].argmax() == 0
    assert result.verdict.metric == "macro_f1"


def test_rows_of_one_image_stay_together_and_hold_their_targets_back(bert: str, tmp_path: Path) -> None:
    ids = [f"{i // 4:032x}" for i in range(80)]
    result = train_text(
        table(NUMBERS, ids), kind="regression", out=str(tmp_path), encoder=bert, launcher="here", epochs=1, folds=4
    )
    folds: dict[str, set[int]] = {}
    for row in result.predictions.to_pylist():
        folds.setdefault(row["id"], set()).add(row["fold"])
    assert all(len(of) == 1 for of in folds.values())
    own = table(NUMBERS, ids).append_column("group", pa.array([str(i % 8) for i in range(80)]))
    grouped = train_text(own, kind="regression", out=str(tmp_path), encoder=bert, launcher="here", epochs=1, folds=4)
    of_group = {(int(row["row"]) % 100 % 8, row["fold"]) for row in grouped.predictions.to_pylist()}
    assert len(of_group) == 8


def shared_task(bert: str, **changes: object) -> TextTask:
    encoder = find_encoder(bert)
    options = {
        "encoder": encoder, "pooling": "first", "max_length": 64, "classes": (),
        "tokens": tokenise(encoder.tokenizer(), TEXTS, max_length=64), "targets": np.array(NUMBERS, dtype=float),
        "folds": grouped_folds(range(80), folds=4), "batch_size": 8, "seed": 42,
    } | changes  # fmt: skip
    return TextFolds(**options)(0)  # type: ignore[arg-type]


def test_whatever_changes_the_result_changes_the_identity(bert: str, tmp_path: Path) -> None:
    first = shared_task(bert).identity
    assert shared_task(bert).identity == first
    targets = np.array(NUMBERS, dtype=float)
    targets[5] += 1
    other_bert = save_tiny_bert(tmp_path, layers=1)
    changed = [
        shared_task(bert, pooling="mean"),
        shared_task(bert, batch_size=9),
        shared_task(bert, targets=targets),
        shared_task(bert, tokens=tokenise(AutoTokenizer.from_pretrained(bert), [*TEXTS[:-1], "a"], max_length=64)),
        shared_task(bert, folds=grouped_folds(range(80), folds=4, seed=1)),
        shared_task(other_bert),
    ]
    assert len({first, *(task.identity for task in changed)}) == 7


def test_the_loss_does_not_depend_on_the_targets_unit(bert: str) -> None:
    in_thousands = shared_task(bert, targets=np.array(NUMBERS, dtype=float) / 1000)
    losses = []
    for task in (shared_task(bert), in_thousands):
        torch.manual_seed(0)
        model = task.build_model().eval()
        losses.append(task.losses(model, task.train_batches(0, [])(np.arange(16))))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)
    assert 0.5 < float(losses[0].detach().mean()) < 2  # an untrained model is about as wrong as the mean


def test_what_cannot_be_trained_is_said_before_training(bert: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind is 'ranking'"):
        train(bert, tmp_path, NUMBERS, "ranking")
    with pytest.raises(ValueError, match="target 'day' is none of the classes"):
        train(bert, tmp_path, NAMES, "classification", classes=["night", "noon"])
    with pytest.raises(ValueError, match="2 or more classes, not"):
        train(bert, tmp_path, ["night"] * 80, "classification")
    with pytest.raises(ValueError, match="row 103 has the target nan"):
        train(bert, tmp_path, [*NUMBERS[:3], float("nan"), *NUMBERS[4:]])
    with pytest.raises(ValueError, match="'target' has 1 nulls of 80"):
        train(bert, tmp_path, [None, *NUMBERS[1:]])
    with pytest.raises(ValueError, match=r"chosen_folds is \[4\]"):
        train(bert, tmp_path, NUMBERS, chosen_folds=[4])
    with pytest.raises(Fatal, match="cannot load the text encoder 'nobody/nothing'"):
        train("nobody/nothing", tmp_path, NUMBERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_ray_and_this_process_train_the_same_models(ray_cluster: None, bert: str, tmp_path: Path) -> None:
    options = {"epochs": 2, "chosen_folds": [0, 2]}
    here = train(bert, tmp_path / "here", NUMBERS, **options)
    there = train(bert, tmp_path / "there", NUMBERS, launcher="task", cpus_per_worker=1, gpus_per_worker=0, **options)
    a, b = (np.array(result.predictions["outputs"].to_pylist()) for result in (here, there))
    np.testing.assert_allclose(a, b, atol=1e-2)  # of targets near 1000
    assert here.scores.select(["model", "metric", "rows"]) == there.scores.select(["model", "metric", "rows"])


def test_the_defaults_are_the_articles() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.learning_rate, recipe.warmup_fraction, recipe.seed) == (5, 5e-5, 0.0, 42)
    options = train_text.__kwdefaults__
    expected = {
        "encoder": "google-bert/bert-base-cased", "batch_size": 32, "epochs": 5, "folds": 5, "seed": 42,
        "learning_rate": 5e-5, "max_length": 500, "pooling": "first",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected
