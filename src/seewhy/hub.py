"""What a model's name stands for: the commit of a model on the Hugging Face Hub, or the files of a folder.

The local cache comes first, so that a name means the same model, and is read without a network, once it was fetched.
"""

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import xxhash
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from seewhy.failure import Fatal

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_CONFIGS = (
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)
_OTHER_WEIGHTS = (".bin", ".ckpt", ".h5", ".msgpack", ".pkl", ".pt", ".pth")


def pin(model: str, revision: str | None) -> str | None:
    """The commit that a branch or tag (None: the main branch) stands for; None for a folder.

    What the local cache holds comes first, so a model stays the same until another revision is asked for, and is named
    without a network once it is there. Only a model that was never fetched is looked up on the hub.

    Raises:
        OSError, ValueError: of huggingface_hub: no such model or revision, none that may be read, or no network.
    """
    if os.path.isdir(model):
        return None
    config = try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(config, str):
        config = hf_hub_download(model, "config.json", revision=revision)
    return Path(config).parent.name  # .../snapshots/<commit>/config.json


def has_weights(model: str, commit: str) -> bool:
    """Whether the local cache holds a hub model's weights, which are fetched after all that is small."""
    return any(isinstance(try_to_load_from_cache(model, name, revision=commit), str) for name in _WEIGHTS)


def need_safetensors(model: str) -> None:
    """Raises Fatal for a folder whose weights are in another form: most of those run code when they are read."""
    if not os.path.isdir(model):
        return
    names = os.listdir(model)
    other = sorted(name for name in names if name.endswith(_OTHER_WEIGHTS))
    if other and not any(name.endswith(".safetensors") for name in names):
        raise Fatal(
            f"{model} has its weights as {other[0]} and not as safetensors: such a file can run code when it is read, "
            "so it is not. Where you trust it, load it with transformers: save_pretrained writes safetensors"
        )


def need_own_code(model: str, commit: str | None) -> None:
    """Raises Fatal where a model's configuration names code of another repository, `org/other--file.Class`.

    transformers would run that code as it is on the other's main branch, whatever commit of this one is trusted.
    """
    for name in _CONFIGS:
        path = Path(model) / name if commit is None else _fetched(model, name, commit)
        if path is None or not path.is_file():
            continue
        for code in _code(json.loads(path.read_bytes())):
            if "--" in code and (commit is None or code.split("--")[0] != model):
                raise Fatal(
                    f"{name} of model {model!r} names code of another repository, {code!r}, of which no commit is "
                    "named: copy the code beside the model that you trust"
                )


def _fetched(model: str, name: str, commit: str) -> Path | None:
    """Where a file of a hub's model lies; None where the model has none."""
    found = try_to_load_from_cache(model, name, revision=commit)
    if not isinstance(found, str):
        if has_weights(model, commit):  # the others are there as well
            return None
        try:
            found = hf_hub_download(model, name, revision=commit)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None
    return Path(found)


def _code(config: Any, within: bool = False) -> Iterator[str]:
    """The classes that a configuration names by `auto_map`, wherever it stands."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from _code(value, within or key == "auto_map")
    elif isinstance(config, list):
        for value in config:
            yield from _code(value, within)
    elif within and isinstance(config, str):
        yield config


def folder_digest(folder: str) -> str:
    """32 hexadecimal digits over the names and bytes of all files under `folder`, hidden ones left out."""
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _hidden(path.relative_to(root)))
    stats = [path.stat() for path in files]
    seen = [(path.relative_to(root), stat.st_mtime_ns, stat.st_size) for path, stat in zip(files, stats, strict=True)]
    return _digest(root, tuple(seen))


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in path.parts)


@lru_cache(maxsize=32)
def _digest(root: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    """Times and sizes are in the arguments only so that a folder that did not change is read once a process."""
    whole = xxhash.xxh3_128()
    for name, _, size in files:
        whole.update(f"{name.as_posix()}\0{size}\0".encode())
        with open(root / name, "rb") as file:
            while piece := file.read(1 << 22):
                whole.update(piece)
    return whole.hexdigest()
