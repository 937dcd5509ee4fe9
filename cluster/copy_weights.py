"""Copies models from the Hugging Face Hub into a bucket, as the cache that the pods mount read-only.

python copy_weights.py gs://BUCKET/weights google-bert/bert-base-cased Salesforce/blip2-opt-2.7b@COMMIT

A model's files go to ``hub/models--ORG--NAME/snapshots/COMMIT/``, as plain files, and the reference, by which a name is
known to mean that commit, is written last: a model that is half there does not count. Pickled weights stay behind.
"""

import sys
from pathlib import Path

from seewhy import storage, urls
from seewhy.cli import stop_on_fatal
from seewhy.failure import Fatal

NOT_READ = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "*.gguf", "*.pkl"]
"""Weights in other forms than safetensors: seewhy does not load them."""


def copy(model: str, url: str) -> str:
    """Copies one model, ``ORG/NAME`` or ``ORG/NAME@REVISION``, and returns its commit; what is there stays as it is.

    Raises:
        Fatal: there is no such model or revision, or it has no weights as safetensors.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = model.partition("@")
    try:
        snapshot = Path(snapshot_download(name, revision=revision or None, ignore_patterns=NOT_READ))
    except (OSError, ValueError) as error:
        raise Fatal(f"cannot fetch {model}: {error}") from error
    files = sorted(path for path in snapshot.rglob("*") if path.is_file())
    if not any(path.suffix == ".safetensors" for path in files):
        raise Fatal(f"{model} has no weights as safetensors: choose a revision that has")
    commit = snapshot.name
    home = urls.join(url, "hub", "models--" + name.replace("/", "--"))
    there = urls.join(home, "refs", revision or "main")
    if storage.exists(there) and storage.read_whole(there).decode() == commit:
        return commit
    for path in files:
        target = urls.join(home, "snapshots", commit, path.relative_to(snapshot).as_posix())
        storage.put_file(str(path), target)
    storage.write_whole(there, commit.encode())
    return commit


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with stop_on_fatal():
        for model in sys.argv[2:]:
            print(f"{model} {copy(model, sys.argv[1])}", flush=True)


if __name__ == "__main__":
    main()
