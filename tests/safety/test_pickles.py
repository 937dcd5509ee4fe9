"""Nothing that lies in a workspace or a model's folder is run: no pickle is read, nor what else can hold code."""

import ast
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from seewhy import hub, schema, vlm
from seewhy.failure import Fatal
from seewhy.siglip import TextImageModel
from seewhy.table import Table
from seewhy.train import checkpoint
from seewhy.train.fit import Recipe
from seewhy.train.image_model import find_image_model
from seewhy.train.loop import fit_folds
from seewhy.train.text_model import find_encoder, load_text_model
from seewhy.vlm.checkpoint import describe
from tests.refusing_hub import refusing_hub
from tests.safety.watching import watched
from tests.train.encoders import save_tiny_bert
from tests.train.toy import ToyFolds

SOURCES = Path(__file__).parents[2]
FOLDERS = [SOURCES / "src", SOURCES / "jobs", SOURCES / "cluster"]
PACKAGED = SOURCES / "src" / "seewhy" / "demo"

# Dotted ends of calls that run what they read, or may.
RUNS_WHAT_IT_READS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load",
    "joblib.load", "torch.load", "torch.hub.load", "numpy.load", "np.load", "marshal.loads", "shelve.open",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader",
    "pd.read_pickle", "pandas.read_pickle", "runpy.run_path", "eval", "exec", "compile", "__import__",
    "pq.ParquetFile", "pq.ParquetDataset", "pq.read_table", "pq.read_pandas", "pd.read_parquet", "pandas.read_parquet",
    "ray.data.read_parquet",
}  # fmt: skip


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def suspects(source: str) -> list[str]:
    """Calls in a source that run what they read, and models that are loaded in a way that may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "cloudpickle", "dill", "joblib", "marshal"):
            found.append(f"from {node.module}")
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {one.arg for one in node.keywords}
        if name in RUNS_WHAT_IT_READS:
            found.append(name)
        if name.endswith(".from_pretrained") and name.partition(".")[0].startswith("AutoModel"):
            found += [] if "use_safetensors" in given else [f"{name} without use_safetensors"]
        if name.endswith(".from_pretrained") and name.startswith("Auto"):
            spread = None in given  # **options: what is in them is looked at where they are made
            found += [] if spread or "trust_remote_code" in given else [f"{name} without trust_remote_code"]
    return found


OPENS_PARQUET = SOURCES / "src" / "seewhy" / "parquet.py"


def test_no_source_reads_what_can_run() -> None:
    files = [path for folder in FOLDERS for path in folder.rglob("*.py")]
    assert len(files) > 100
    found = {path: names for path in files if (names := suspects(path.read_text("utf-8")))}
    assert found == {OPENS_PARQUET: ["pq.ParquetFile"]}


@pytest.mark.parametrize(
    "source",
    ["import torch; torch.load(f)", "pickle.loads(b)", "from pickle import loads", "yaml.load(t, Loader=yaml.Loader)",
     "eval(x)", "AutoModel.from_pretrained(p, trust_remote_code=False)", "AutoTokenizer.from_pretrained(p)"],
)  # fmt: skip
def test_the_look_finds_them(source: str) -> None:
    assert suspects(source)


class Payload:
    """What a pickle can do: here it makes a file, where it could do anything."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self._mark), "w")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "pwned"


def test_the_payload_works(mark: Path) -> None:
    with watched() as seen:
        pickle.loads(pickle.dumps(Payload(mark))).close()
    assert mark.exists()
    assert seen.unpickled in (["io.open"], ["_io.open"])


def poison(folder: Path, mark: Path, *, only: tuple[str, ...] = ()) -> None:
    """Puts the payload into the folder, under every name that some library loads, in the place of the weights."""
    data = pickle.dumps(Payload(mark))
    for path in [*folder.rglob("*.safetensors")]:
        path.unlink()
    for name in only or ("pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "model.ckpt"):
        (folder / name).write_bytes(data)
    torch.save({"x": Payload(mark)}, folder / (only[0] if only else "pytorch_model.bin"))


LOADERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "vision-language": ("tiny_vlm", lambda folder: vlm.load("hf", model=folder)),
    "siglip": ("tiny_siglip", lambda folder: TextImageModel(model=folder)),
    "encoder": ("tiny_encoder", lambda folder: find_encoder(folder).model()),
    "image": ("tiny_image", lambda folder: find_image_model(folder).network(())),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_weights_that_can_run_are_refused_in_plain_words(kind: str, tmp_path: Path, mark: Path) -> None:
    packaged, load = LOADERS[kind]
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / packaged, folder)
    poison(folder, mark)
    with watched(at_most_sec=60) as seen, pytest.raises(Fatal, match=r"has its weights as .* and not as safetensors"):
        load(str(folder))
    assert not mark.exists()
    assert seen.unpickled == []


@pytest.mark.parametrize("kind", LOADERS)
def test_a_pickle_beside_safetensors_is_left_alone(kind: str, tmp_path: Path, mark: Path) -> None:
    packaged, load = LOADERS[kind]
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / packaged, folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(mark)))
    with watched(at_most_sec=60) as seen:
        load(str(folder))
    assert not mark.exists()
    assert seen.unpickled == []


def test_a_models_own_code_is_not_run_unless_it_is_trusted(tmp_path: Path, mark: Path) -> None:
    """A folder whose configuration names a class of its own, in a file beside it."""
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / "tiny_vlm", folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Own"}}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Own: pass\n")
    with pytest.raises(Fatal, match="trust_remote_code"):
        vlm.load("hf", model=str(folder))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_trusting_a_model_is_no_trust_in_what_another_repository_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would take it from the other's main branch; of a folder, and of a commit in the cache."""
    commit = "a" * 40
    home = tmp_path / "hub" / "models--org--vlm" / "snapshots" / commit
    shutil.copytree(PACKAGED / "tiny_vlm", home)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    config = json.loads((home / name).read_text())
    for code, model in (("other/own--own.Own", str(home)), ("other/own--own.Own", "org/vlm"), ("org/vlm--own.Own", "")):
        (home / name).write_text(json.dumps({**config, "part": {"auto_map": {"AutoConfig": [code, None]}}}))
        if model:
            with pytest.raises(Fatal, match="names code of another repository"):
                describe(model, None if model == str(home) else commit, True)
        else:
            hub.need_own_code("org/vlm", commit)


def test_a_model_on_a_hub_without_safetensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Path
) -> None:
    """In the cache there are a configuration, a vocabulary and a pickle; the hub has nothing more to give."""
    commit = "a" * 40
    home = tmp_path / "hub" / "models--org--bert"
    shutil.copytree(PACKAGED / "tiny_encoder", home / "snapshots" / commit)
    poison(home / "snapshots" / commit, mark, only=("pytorch_model.bin",))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path / "hub"), raising=False)
    assert not hub.has_weights("org/bert", commit)
    with refusing_hub(tmp_path / "hub", monkeypatch), pytest.raises(Fatal, match="org/bert"):
        find_encoder("org/bert").model()
    assert not mark.exists()


def test_pickles_in_a_workspace_are_dead_files(tmp_path: Path, mark: Path) -> None:
    """Under every name of a training, of a checkpoint and of a table's parts: an error, or not looked at."""
    out = tmp_path / "out"
    arguments: dict[str, Any] = {"out": str(out), "recipe": Recipe(epochs=2), "launcher": "here"}
    fit_folds(ToyFolds(), [0], **arguments)
    data = pickle.dumps(Payload(mark))
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        before = path.read_bytes()
        path.write_bytes(data)
        with watched(at_most_sec=60) as seen:
            try:
                fit_folds(ToyFolds(), [0], **arguments)
            except Exception as error:
                assert not isinstance(error, pickle.UnpicklingError)  # noqa: PT017
        assert not mark.exists(), path
        assert seen.unpickled == []
        path.write_bytes(before)
    for name in ("checkpoint.pkl", ".metadata.pkl", "trainer.pkl", "pytorch_model.bin", "model.pt"):
        (out / name).write_bytes(data)
    fit_folds(ToyFolds(), [0], **arguments)
    table = Table(str(tmp_path / "caption" / "0"), schema.TOKENS)
    nothing = [None]
    rows = {"id": ["a"], "words": [["x"]], "error_kind": nothing, "reason": nothing, "detail": nothing}
    part = Path(table.append(pa.table(rows, schema=schema.TOKENS), generation=1))
    part.write_bytes(data)
    with pytest.raises(Fatal, match="is not a whole Parquet file"):
        table.read()
    assert not mark.exists()


def test_a_checkpoint_is_safetensors_and_json(tmp_path: Path) -> None:
    assert checkpoint.STATE.endswith(".json")
    save_tiny_bert(tmp_path / "encoder")
    assert {path.suffix for path in (tmp_path / "encoder").iterdir()} <= {".json", ".safetensors", ".txt"}
    with pytest.raises((Fatal, OSError)):
        load_text_model(str(tmp_path / "nowhere"))
