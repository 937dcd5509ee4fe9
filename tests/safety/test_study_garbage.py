"""Studies as nobody should write them: a study or a message, whatever stands at whichever key."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seewhy.failure import Fatal
from seewhy.plain_yaml import read_yaml
from seewhy.sections import Section
from seewhy.study import Study, load_study, read_changes
from tests.safety.watching import efforts, fuzzed, watched

GOOD: dict[str, Any] = {
    "title": "t",
    "workspace": "out",
    "manifest": {"path": "m.csv", "image": "i", "target": "t"},
    "score": {"texts": ["a"]},
    "ask": {"backend": "fake", "questions": {"a": "b?"}},
}


def sections_in(kind: Any) -> Iterator[type[Section]]:
    if isinstance(kind, type) and issubclass(kind, Section):
        yield kind
    for inner in get_args(kind) if isinstance(kind, UnionType) or get_args(kind) else ():
        yield from sections_in(inner)


def keys(model: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that a study may have, sections and what is in them, read from the models themselves."""
    for name, field in model.model_fields.items():
        yield (*above, name)
        for section in sections_in(field.annotation):
            yield from keys(section, (*above, name))


KEYS = list(dict.fromkeys(keys(Study)))


def test_every_setting_is_found() -> None:
    """By two that are deep and one of each section that may be left out; a hundred and more are too many to list."""
    assert {("fetch", "resources", "workers"), ("describe", "resources", "memory_per_worker"), ("score", "texts")} <= {
        *KEYS
    }
    assert ("ask", "options") in KEYS
    assert len(KEYS) > 150


numbers = st.integers() | st.floats() | st.sampled_from([10**30, -(10**30), 2**63, 0, -1, 1e308, 5e-324])
texts = st.text(max_size=10) | st.sampled_from(
    ["", " ", "../../../etc/passwd", "/dev/zero", "~root/x", "file:///etc/passwd", "gs://", "x" * 3000, "25 USD",
     "9e999 GB", "nan GB", "http://u:p@h/?k=1", "{}", "{", "[fe80::1%eth0]", "0x7f.1", "\u202e", "日本", "=1", "true"]
)  # fmt: skip
junk = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | numbers, inner, max_size=4),
    max_leaves=8,
)


def set_at(value: dict[str, Any], key: tuple[str, ...], given_value: Any) -> dict[str, Any]:
    """A copy of `value` with one key changed."""
    first, *rest = key
    inner = value.get(first)
    below = inner if isinstance(inner, dict) else {}
    return {**value, first: set_at(below, tuple(rest), given_value) if rest else given_value}


def looked_at(path: Path, text: str | bytes) -> Study | None:
    """Loads it, and holds the reader to what it promises."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    said, study = "", None
    with watched() as seen:
        try:
            study = load_study(str(path))
        except Fatal as error:
            said = str(error)
    assert len(said) < 50_000
    assert seen.opened <= {os.path.realpath(path)}
    assert (seen.changed, seen.connected, seen.started, seen.unpickled) == (set(), [], [], [])
    if study is not None:
        assert isinstance(hash(study), int)
        assert "\ud800" not in study.model_dump_json()
    return study


@efforts(400, 10_000)
def test_anything_at_any_key(tmp_path: Path, examples: int) -> None:
    """What is taken, and what is not, is the models' to say. Each key is met: twice in the least."""
    met: dict[tuple[str, ...], set[bool]] = {}

    @fuzzed(examples)
    @given(st.sampled_from(KEYS), junk)
    def check(key: tuple[str, ...], value: Any) -> None:
        study = looked_at(tmp_path / "study.yaml", yaml.safe_dump(set_at(GOOD, key, value), allow_unicode=True))
        met.setdefault(key, set()).add(study is not None)

    check()
    for key in KEYS:
        for value in ({"a": [1]}, ["x", "x"], -1):
            study = looked_at(tmp_path / "study.yaml", yaml.safe_dump(set_at(GOOD, key, value)))
            met.setdefault(key, set()).add(study is not None)
    assert all(False in met[key] for key in KEYS), "a key that takes anything"


@efforts(200, 10_000)
def test_any_text_is_a_study_or_a_message(tmp_path: Path, examples: int) -> None:
    pieces = st.sampled_from(
        ["title", ": ", "- ", "\n", "  ", "&a ", "*a", "<<: ", "!!", "!", "[", "]", "{", "}", "|", ">", "? ", "'", '"',
         "\\ud800", "2026-13-45", "0x", "1:2:3", "\t", "---", "%YAML 9.9", "\0", "\ufeff", "!!python/name:os.system ",
         "!!set", "!!binary", "!!int", "!!timestamp", "=", ".inf", "~", "0o7", "#", ","]
    )  # fmt: skip

    @fuzzed(examples)
    @given(st.lists(pieces, max_size=25).map("".join) | st.binary(max_size=60))
    def check(text: str | bytes) -> None:
        assert looked_at(tmp_path / "study.yaml", text) is None

    check()


def bomb(levels: int, wide: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, levels)]
    return "\n".join(lines)


HEAD = "title: t\nworkspace: out\nmanifest: {path: m.csv, image: i, target: t}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bomb(9, 9), "unfolds to more than 50,000 values"),
        (HEAD + "fetch: {roots: &a [*a]}", "nested deeper than 50"),
        (HEAD + "caption: &c {options: *c}", "nested deeper than 50"),
        ("[" * 60 + "]" * 60, "nested deeper than 50"),
        ("[" * 5000 + "]" * 5000, "nested deeper than 50"),
        ("\n".join(f"a{i}: &a{i} [[[[[[[[[[*a{i - 1}]]]]]]]]]]" if i else "a0: &a0 x" for i in range(30)), "deeper"),
        (HEAD + "question: !!python/object/apply:os.system ['touch pwned']", "is no plain value"),
        (HEAD + "question: !!python/name:os.system", "is no plain value"),
        (HEAD + "question: !!binary aGk=", "is no plain value"),
        (HEAD + "question: !!set {a, b}", "is no plain value"),
        (HEAD + "question: !mine x", "is no plain value"),
        (HEAD + 'question: "\\ud800"', r"'\\ud800' is no character"),
        (HEAD + 'question: "a\\0b"', r"'\\x00' is no character"),
        (HEAD + "limit: 1" + ":59" * 40, "a number of 121 digits"),
        (HEAD + "limit: 0x" + "f" * 100_000, "digits, allowed are 50"),
        (HEAD + "limit: !!int x", "not what its tag says|invalid literal"),
        (HEAD + "limit: !!int ''", "not what its tag says"),
        (HEAD + "title: again", "the key 'title' is given twice"),
        (HEAD + "fetch: {tries: 1, tries: 2}", "the key 'tries' is given twice"),
        (HEAD + "? [1]\n: x", "unhashable"),
        ("x" * 2_000_000, "characters, allowed are 1,000,000"),
    ],
)
def test_what_yaml_can_do_to_a_reader_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with watched(at_most_sec=20) as seen, pytest.raises(Fatal, match=why) as error:
        load_study(str(tmp_path / "study.yaml"))
    assert (seen.changed, seen.started) == (set(), [])
    assert len(str(error.value)) < 2000


def test_what_is_plain_stays_as_it_is() -> None:
    text = "a: &a {x: 1, y: [1.5, yes, ~, 'no']}\nb: {<<: *a, x: 2}\nc: *a\n"
    text += "d: 2026-01-01\ne: =\nf: 0x1f\ng: 2026-13-45\n"
    first = {"x": 1, "y": [1.5, True, None, "no"]}
    assert read_yaml(text) == {
        "a": first, "b": {**first, "x": 2}, "c": first, "d": "2026-01-01", "e": "=", "f": 31, "g": "2026-13-45",
    }  # fmt: skip
    assert read_yaml("") is None


def test_a_change_on_the_command_line_that_is_no_plain_value_is_a_text() -> None:
    given_values = ["caption.prompt=!!python/name:os.system", "caption.prompt=&a [*a]", "caption.seed=7"]
    assert [next(iter(read_changes([one]).values())) for one in given_values] == [
        "!!python/name:os.system", "&a [*a]", 7,
    ]  # fmt: skip


def test_many_mistakes_and_long_ones_make_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(HEAD + "fetch: {roots: [" + "1, " * 5000 + "]}")
    with pytest.raises(Fatal, match=r"5,000 mistakes(.|\n)*and 4,950 more") as error:
        load_study(str(path))
    assert len(str(error.value)) < 10_000
    path.write_text(HEAD + f"score: {{texts: [{', '.join(map(str, ['x'] * 20_000))}]}}")
    with watched(at_most_sec=20), pytest.raises(Fatal, match="the text 'x' is there twice"):
        load_study(str(path))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("{backend: hf, model: org/m, trust_remote_code: true}", "name the commit that you trust"),
        ("{backend: hf, model: org/m, revision: main, trust_remote_code: true}", "40 digits, not 'main'"),
        ("{backend: openai, model: m, options: {base_url: x}, trust_remote_code: true}", "runs no code of a model's"),
        (f"{{backend: hf, model: org/m, revision: {'a' * 40}, trust_remote_code: true}}", None),
        ("{backend: vllm, model: ./folder, trust_remote_code: true}", None),
        ("{backend: hf, model: org/m}", None),
    ],
)
def test_a_models_own_code_is_run_where_the_study_names_model_and_commit(
    tmp_path: Path, section: str, why: str | None
) -> None:
    (tmp_path / "study.yaml").write_text(HEAD + f"caption: {section}")
    if why is None:
        study = load_study(str(tmp_path / "study.yaml"))
        assert study.caption.trust_remote_code == ("trust" in section)
        return
    with pytest.raises(Fatal, match=why):
        load_study(str(tmp_path / "study.yaml"))
