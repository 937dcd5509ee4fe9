"""A model on a hub or in a folder: what it is, what changes its results, and loading it, or saying why not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, Blip2ForConditionalGeneration
from transformers.utils import logging

from seewhy.failure import Fatal
from seewhy.hub import folder_digest, has_weights, need_own_code, need_safetensors, pin

BLIP2 = "blip-2"
"""``model_type`` of the models that continue a prompt and know no chat template."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and warnings, and puts both back as they were."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def pick_device(device: str) -> torch.device:
    """``auto``: the first CUDA device, else the CPU; anything else as torch reads it."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on GPUs that compute in it, float16 on other GPUs, float32 on a CPU.

    Raises:
        ValueError: `dtype` is none of ``auto``, ``float32``, ``bfloat16``, ``float16``.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def commit(model: str, revision: str | None) -> str | None:
    """What ``hub.pin`` says. Raises ``Fatal`` where there is no such model, or none that may be read."""
    with _explained(model, revision):
        return pin(model, revision)


def describe(model: str, revision: str | None, trust_remote_code: bool) -> tuple[Any, dict[str, object]]:
    """The model's configuration, and what names its exact weights. Reads no weights of a model on a hub.

    A folder is named by the digest of its files, a model on a hub by its commit, see ``hub.pin``.

    Raises:
        Fatal: no such model, or none that may be read.
    """
    with quiet(), _explained(model, revision):
        commit = pin(model, revision)
        if trust_remote_code:
            need_own_code(model, commit)
        config = AutoConfig.from_pretrained(model, revision=commit, trust_remote_code=trust_remote_code)
    if commit is None:
        return config, {"model": Path(model).resolve().name, "revision": None, "digest": folder_digest(model)}
    return config, {"model": model, "revision": commit}


def load(
    model: str, revision: str | None, dtype: torch.dtype, device: torch.device, trust_remote_code: bool
) -> tuple[Any, Any]:
    """(processor, network): the network on `device`, in evaluation mode. Raises ``Fatal`` as ``describe`` does.

    A model that the local cache holds is read from there alone: transformers would ask the hub about files that a model
    may lack, and a hub that is out of reach, or refuses, would be an error.
    """
    need_safetensors(model)
    with quiet(), _explained(model, revision):
        commit = pin(model, revision)
        if trust_remote_code:
            need_own_code(model, commit)
        named: dict[str, Any] = {"revision": commit, "trust_remote_code": trust_remote_code}
        for cached in (True, False) if commit is not None and has_weights(model, commit) else (False,):
            try:
                processor, network, report = _read(model, dtype, {**named, "local_files_only": cached})
                break
            except OSError:
                if not cached:
                    raise
    # transformers fills what the file lacks with random numbers and only logs it.
    if missing := sorted(report["missing_keys"]):
        raise Fatal(f"model {model!r} lacks {len(missing)} of its weights, {missing[0]!r} among them: it is not whole")
    return processor, network.to(device).eval()


def _read(model: str, dtype: torch.dtype, named: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Processor, network, and which of its weights were there."""
    config = AutoConfig.from_pretrained(model, **named)
    processor = AutoProcessor.from_pretrained(model, **named)
    kind: Any = Blip2ForConditionalGeneration if config.model_type == BLIP2 else AutoModelForImageTextToText
    network, report = kind.from_pretrained(model, dtype=dtype, use_safetensors=True, output_loading_info=True, **named)
    return processor, network, report


@contextmanager
def _explained(model: str, revision: str | None) -> Iterator[None]:
    """Turns what can go wrong in finding and loading a model into ``Fatal`` with what to do about it."""
    try:
        yield
    except ImportError as error:
        raise Fatal(f"model {model!r} needs a package that is not installed: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise Fatal(f"cannot load model {model!r}{at}: {_advice(error)} ({_first_line(error)})") from error


def _advice(error: BaseException) -> str:
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice
    return "give a folder that holds one, or the name of one on the Hugging Face Hub, with its weights as safetensors"


_ADVICE: list[tuple[type[BaseException], str]] = [
    (GatedRepoError, "accept its terms on the Hub, then run `hf auth login` or set HF_TOKEN"),
    (RevisionNotFoundError, "there is no such revision; give a branch, a tag or a commit of the model"),
    (RepositoryNotFoundError, "there is no such model on the Hub, or it is private: then set HF_TOKEN"),
    (LocalEntryNotFoundError, "it is not in the local cache and the Hub cannot be reached; download it first"),
    (HFValidationError, "there is no such folder, and it is no name of a model on the Hub either"),
    (ValueError, "it is no model that takes images and text, or it needs trust_remote_code"),
]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
