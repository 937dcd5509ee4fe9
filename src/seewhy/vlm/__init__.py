"""Backends by name. What a backend imports stays inside its own module, so an unused one costs nothing.

A backend is two functions of the same flat keyword arguments: one loads it, the other tells, without loading any
weights, all that changes its answers. The second belongs into the name of the table that holds the answers.
"""

from collections.abc import Callable
from typing import Any

from seewhy.failure import Fatal
from seewhy.vlm.base import Backend as Backend


def _hf(**options: Any) -> Backend:
    from seewhy.vlm.hf import HfBackend

    return HfBackend(**options)


def _hf_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.hf import identity

    return identity(**options)


def _tiny(**options: Any) -> Backend:
    from seewhy.vlm.hf import tiny

    return tiny(**options)


def _tiny_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.hf import tiny_identity

    return tiny_identity(**options)


def _fake(**options: Any) -> Backend:
    from seewhy.vlm.fake import FakeBackend

    return FakeBackend(**options)


def _fake_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.fake import identity

    return identity(**options)


def _gemini(**options: Any) -> Backend:
    from seewhy.vlm.gemini import GeminiBackend

    return GeminiBackend(**options)


def _gemini_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.gemini import identity

    return identity(**options)


def _openai(**options: Any) -> Backend:
    from seewhy.vlm.openai import OpenAIBackend

    return OpenAIBackend(**options)


def _openai_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.openai import identity

    return identity(**options)


def _vllm(**options: Any) -> Backend:
    from seewhy.vlm.vllm import VllmBackend

    return VllmBackend(**options)


def _vllm_identity(**options: Any) -> dict[str, object]:
    from seewhy.vlm.vllm import identity

    return identity(**options)


LOADERS: dict[str, Callable[..., Backend]] = {
    "hf": _hf,
    "tiny": _tiny,
    "fake": _fake,
    "gemini": _gemini,
    "openai": _openai,
    "vllm": _vllm,
}
IDENTITIES: dict[str, Callable[..., dict[str, object]]] = {
    "hf": _hf_identity,
    "tiny": _tiny_identity,
    "fake": _fake_identity,
    "gemini": _gemini_identity,
    "openai": _openai_identity,
    "vllm": _vllm_identity,
}


def takes_videos(name: str) -> bool:
    """Whether the backend sees a whole video, and what a gs:// URI names. All others are shown frames of it."""
    return name == "gemini"


def load(name: str, **options: Any) -> Backend:
    """The backend of that name, ready to answer. Raises ``Fatal`` when it cannot be had, and says what to do."""
    return _entry(LOADERS, name)(**options)


def identity(name: str, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes the answers of ``load(name, **options)`` to ``prompt``, as plain values.

    ``prompt`` None stands for the backend's default; the answer holds the prompt that it came to.

    Raises:
        Fatal: an option that the backend does not have, or a value that it does not take.
    """
    found = _entry(IDENTITIES, name)
    try:
        return {"backend": name, **found(prompt=prompt, **options)}
    except (TypeError, ValueError) as error:
        raise Fatal(f"backend {name} cannot be set up so: {error}") from error


def _entry(table: dict[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    if name not in table:
        raise ValueError(f"unknown backend {name!r}; there are {', '.join(sorted(table))}")
    return table[name]
