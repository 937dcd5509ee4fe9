"""The folder that pages are written into, and what all of them share: jinja2 environment, title, links at the top."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seewhy.report import numbers, safe
from seewhy.report.results import About

_HAN_TAGS = ("ja", "zh", "ko")


def environment() -> Environment:
    """Escapes everything, shows hidden characters, and fails on a name that a template gets wrong."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda v: safe.visible(v) if isinstance(v, str) and not isinstance(v, Markup) else v,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True)
class Link:
    label: str
    file: str


class Site:
    """One report's pages.

    Args:
        links: to the pages at the top; none are drawn where there is one page only.
        text_lang: of the texts; classes, words and titles in Han letters or kana are taken for the same language.
    """

    def __init__(self, folder: Path, about: About, links: Sequence[Link], text_lang: str) -> None:
        self.folder, self.about, self.links = folder, about, links
        self._lang = text_lang
        self._env = environment()
        self._env.globals |= {"lang_of": self.lang_of, "n": numbers}

    def write(self, path: str, template: str, **context: Any) -> None:
        """Renders `template` into the file `path`, which names it from the folder."""
        html = self._env.get_template(template).render(
            about=self.about,
            links=self.links if len(self.links) > 1 else [],
            file=path,
            root="../" * path.count("/"),
            **context,
        )
        (self.folder / path).write_text(html, encoding="utf-8")

    def lang_of(self, text: str) -> str:
        """The texts' language where `text` is in its letters too, else empty. Browsers choose Han glyphs by it."""
        if not self._lang.lower().startswith(_HAN_TAGS):
            return ""
        return self._lang if any("\u3041" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" for c in text) else ""
