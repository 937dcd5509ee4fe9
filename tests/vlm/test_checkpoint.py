"""Finding, naming and loading models; every way to fail ends in Fatal with what to do."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from seewhy.failure import Fatal
from seewhy.hub import folder_digest
from seewhy.vlm import checkpoint
from tests.refusing_hub import refusing_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CPU = torch.device("cpu")


def load(model: str, revision: str | None = None):
    return checkpoint.load(model, revision, torch.float32, CPU, False)


def test_a_folder_is_named_by_what_its_files_hold(model_folder, tmp_path):
    first = shutil.copytree(model_folder("llava"), tmp_path / "a" / "model")
    second = shutil.copytree(model_folder("llava"), tmp_path / "b" / "model")
    _, named = checkpoint.describe(str(first), None, False)
    assert checkpoint.describe(str(second), None, False)[1] == named
    (second / ".cache").write_text("hidden files do not count")
    assert folder_digest(str(second)) == named["digest"]

    weights = second / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = folder_digest(str(second))
    assert changed != named["digest"]
    (second / "config.json").rename(second / "config.yaml")  # keeps its place in the order
    assert folder_digest(str(second)) != changed


@pytest.fixture
def cached_model(model_folder, tmp_path, monkeypatch) -> str:
    """A model in the local cache, as a download from the Hub leaves it."""
    home = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(model_folder("llava"), home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return "org/tiny"


def test_a_hub_model_is_named_by_the_commit_that_its_branch_stands_for(cached_model):
    config, named = checkpoint.describe(cached_model, None, False)
    assert config.model_type == "llava"
    assert named == {"model": "org/tiny", "revision": COMMIT}
    assert checkpoint.describe(cached_model, "main", False)[1] == named
    assert checkpoint.describe(cached_model, COMMIT, False)[1] == named


@pytest.mark.parametrize(
    ("model", "revision", "advice"),
    [
        ("org/none", None, "not in the local cache"),
        ("org/tiny", "dev", "'org/tiny' at revision 'dev': it is not in the local cache"),
        ("/no/such/folder", None, "there is no such folder"),
    ],
)
def test_a_model_that_cannot_be_found_is_fatal(cached_model, model, revision, advice):
    with pytest.raises(Fatal, match=advice):
        checkpoint.describe(model, revision, False)
    with pytest.raises(Fatal, match=f"cannot load model '{model}'"):
        load(model, revision)


def test_weights_that_are_not_whole_are_fatal(model_folder, tmp_path):
    """transformers would fill them with random numbers and caption on."""
    folder = shutil.copytree(model_folder("llava"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file({name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors")
    with pytest.raises(Fatal, match=r"lacks 1 of its weights, .*up_proj.* not whole"):
        load(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(Fatal, match="cannot load model"):
        load(str(folder))


def test_a_model_of_another_kind_is_fatal(tmp_path):
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(Fatal, match="cannot load model"):
        load(str(tmp_path / "bert"))


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[None]:
    with refusing_hub(tmp_path / "hub", monkeypatch):
        yield


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("org/gated", "accept its terms on the Hub, then run `hf auth login` or set HF_TOKEN"),
        ("org/none", "no such model on the Hub, or it is private"),
        ("org/tiny", "'org/tiny' at revision 'v2': there is no such revision"),
    ],
)
def test_what_the_hub_answers_becomes_advice(hub, model, advice):
    with pytest.raises(Fatal, match=advice):
        checkpoint.describe(model, "v2", False)


def test_a_cached_model_is_not_asked_for_again(hub, cached_model):
    """The server refuses every question about this model, so only the cache can have answered."""
    assert checkpoint.describe(cached_model, None, False)[1]["revision"] == COMMIT


def test_a_cached_model_is_loaded_without_a_word_to_a_hub_that_refuses_it(cached_model, tmp_path, monkeypatch):
    """As a gated model where nobody has logged in: transformers would ask for files that it may or may not have."""
    with refusing_hub(tmp_path / "hub", monkeypatch) as asked:
        processor, network = load(cached_model)
    assert asked == []
    assert processor.tokenizer is not None
    assert network.config.model_type == "llava"


def test_a_missing_package_is_named():
    needs = r"needs a package that is not installed: No module named 'sentencepiece'$"
    with pytest.raises(Fatal, match=needs), checkpoint._explained("org/tiny", None):
        raise ImportError("No module named 'sentencepiece'\nmore")
