"""YAML of plain values: mappings, lists, texts, numbers, yes or no, and nothing.

What else YAML can say is refused before a value is built of it: tags that name objects, anchors that unfold to more
than anybody wrote (ten lines can stand for gigabytes) or into themselves, nesting without end, a key that is given
twice, and characters that no file can hold. A date is a text: a study has no use for any.
"""

import re
from typing import Any

import yaml

MOST_CHARACTERS = 1_000_000
MOST_VALUES = 50_000
"""Once all anchors are unfolded."""
DEEPEST = 50
LONGEST_NUMBER = 50
"""Digits: Python refuses to print numbers of many thousands, and takes minutes to read those in base 60."""

_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
_TEXT = {_TAG + "timestamp", _TAG + "value"}  # what PyYAML makes of 2026-01-01, and of a lone =
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_yaml(text: str) -> Any:
    """The one value that `text` holds; None where it holds nothing.

    Raises:
        ValueError: it is no YAML, or holds more than plain values. The message says what, and on which line.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, allowed are {MOST_CHARACTERS:,}")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _weigh(node, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # of PyYAML, on `!!int x` and its like
        raise ValueError(f"a value that is not what its tag says ({type(error).__name__}: {error})") from error


def _weigh(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """Values that a node stands for, its own and those of all below it, and the levels below it.

    An anchor is weighed once, and counts wherever it stands.
    """
    values, levels = known.get(id(node), (1, 0))
    if depth + levels > DEEPEST:  # an anchor that holds itself, too
        raise ValueError(f"line {_line(node)}: nested deeper than {DEEPEST} levels")
    if id(node) in known:
        return values, levels
    if node.tag in _TEXT and isinstance(node, yaml.ScalarNode):
        node.tag = _TAG + "str"
    if node.tag not in _PLAIN:
        raise ValueError(f"line {_line(node)}: {node.tag!r} is no plain value")
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node)
    for one in _inner(node):
        more, below = _weigh(one, known, depth + 1)
        values, levels = values + more, max(levels, below + 1)
        if values > MOST_VALUES:
            raise ValueError(f"line {_line(node)}: it unfolds to more than {MOST_VALUES:,} values")
    known[id(node)] = values, levels
    return values, levels


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_scalar(node: yaml.ScalarNode) -> None:
    if node.tag in (_TAG + "int", _TAG + "float") and len(node.value) > LONGEST_NUMBER:
        raise ValueError(f"line {_line(node)}: a number of {len(node.value):,} digits, allowed are {LONGEST_NUMBER}")
    if found := _NO_TEXT.search(node.value):
        raise ValueError(f"line {_line(node)}: {found[0]!r} is no character of a text")


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f"line {_line(key)}: the key {key.value[:50]!r} is given twice")
            seen.add(key.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
