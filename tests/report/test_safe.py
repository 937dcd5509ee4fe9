import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.report import safe
from seewhy.report.site import environment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc\u202egpj.exe", "abc[U+202E]gpj.exe"),
        ("pay\u200bpal", "pay[U+200B]pal"),
        ("\ufefftext\x00\x1b[31m", "[U+FEFF]text[U+0000][U+001B][31m"),
        ("a\u2066b\u2069\u061c", "a[U+2066]b[U+2069][U+061C]"),
        ("one\r\ntwo\tthree\nfour", "one\ntwo\tthree\nfour"),
        ("می\u200cخواهم 👩\u200d🎨", "می\u200cخواهم 👩\u200d🎨"),  # both are spelt with joiners
        ("a\u200db\u200d", "a[U+200D]b[U+200D]"),
        ("lone \ud800", "lone [U+D800]"),
        ("日本語、café, 12°", "日本語、café, 12°"),
    ],
)
def test_hidden_characters_are_written_out(text: str, shown: str) -> None:
    assert safe.visible(text) == shown


@pytest.mark.parametrize("url", ["http://a.example/x.jpg", "https://a.example:8080/%20", "HTTPS://a.example/"])
def test_web_addresses_become_links(url: str) -> None:
    assert safe.web_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "//a.example/x",
        "posters/1.jpg",
        "gs://bucket/x.jpg",
        "http://",
        "https://user:secret@a.example/",
        "https://a.example/x.jpg?sig=secret",
        "https://a.example/x.jpg#secret",
        "https://a.example/\u202egpj",
        "https://a.example/a b",
        "http://[::1",
        "",
        None,
        7,
    ],
)
def test_nothing_else_becomes_a_link(url: object) -> None:
    assert safe.web_link(url) is None


def test_file_names_are_plain_and_differ() -> None:
    assert safe.file_name("0f" * 16) == "0f" * 16
    odd = [safe.file_name(i) for i in ("../../etc/passwd", "a/b", "", "a b", "x" * 65, "日本")]
    assert len(set(odd)) == len(odd)
    assert all(name.isalnum() and len(name) == 33 for name in odd)


def test_a_language_tag_is_one() -> None:
    assert [safe.language_tag(t) for t in ("", "ja", "pt-BR", "zh-Hans-CN")] == ["", "ja", "pt-BR", "zh-Hans-CN"]
    with pytest.raises(ValueError, match="is not a language tag"):
        safe.language_tag('ja" onload="x')


ODD_TEXT = st.text(st.sampled_from("<>&'\u2028\u2029\n\"\\/") | st.characters(codec="utf-8"))


@given(st.recursive(ODD_TEXT | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=4), max_leaves=8))
def test_script_data_reads_back_and_cannot_end_its_script(value: object) -> None:
    script = safe.script_assignment("DATA", value)
    body = script.removeprefix("window.DATA=").removesuffix(";\n")
    assert json.loads(body) == value
    assert not set("<>&'\u2028\u2029\n") & set(body)


def test_every_template_escapes_and_shows_hidden_characters() -> None:
    env = environment()
    template = env.from_string('<p title="{{ x }}">{{ x }}</p>')
    assert template.render(x="\"<b>'\u202e") == '<p title="&#34;&lt;b&gt;&#39;[U+202E]">&#34;&lt;b&gt;&#39;[U+202E]</p>'
    for name in env.list_templates():
        source = env.loader.get_source(env, name)[0] if env.loader else ""
        assert "|safe" not in source.replace(" ", "")
        assert "autoescape" not in source
