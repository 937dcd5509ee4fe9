"""What several steps of one run ask for again and again, worked out once: manifest rows, joins."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_FORGETTERS: list[Callable[[], None]] = []


def once_a_run(function: Callable[P, T]) -> Callable[P, T]:
    """Keeps what `function` last returned, for equal arguments, until `forget`. Its arguments must be hashable."""
    kept = lru_cache(maxsize=1)(function)
    _FORGETTERS.append(kept.cache_clear)
    return kept  # type: ignore[return-value]


def forget() -> None:
    """A run begins: files may have changed since the last one in this process."""
    for clear in _FORGETTERS:
        clear()
