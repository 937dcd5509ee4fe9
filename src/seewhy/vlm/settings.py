"""Flat keyword arguments, dealt out to the frozen dataclasses that name, default, document and check them.

A backend and its identity take the same arguments; so each of them stands in one place.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any


def dealt(options: Mapping[str, Any], *kinds: Any) -> list[Any]:
    """One of each of the dataclasses `kinds`, from the options that are its fields. No two share a field's name.

    Raises:
        TypeError: an option that none of them has, or none for a field without a default.
        ValueError: of the dataclasses, for a value out of range.
    """
    known = {field.name: field for kind in kinds for field in fields(kind)}
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"there is no option {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    needed = [name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING]
    if missing := [name for name in needed if name not in options]:
        raise TypeError(f"the option {', '.join(missing)} is missing")
    return [kind(**{one.name: options[one.name] for one in fields(kind) if one.name in options}) for kind in kinds]
