"""A page's elements by the standard library's parser: enough to ask what a page says and where it links."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_EMPTY = {"meta", "link", "img", "input", "br", "line", "circle", "rect", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(c if isinstance(c, str) else f" {c.text} " for c in self.children).split())

    def all(self, tag: str = "", cls: str = "", **attributes: str) -> list["Element"]:
        found = []
        for child in self.children:
            if isinstance(child, Element):
                has = child.attributes
                fits = tag in ("", child.tag) and (not cls or cls in has.get("class", "").split())
                if fits and all(has.get(k) == v for k, v in attributes.items()):
                    found.append(child)
                found += child.all(tag, cls, **attributes)
        return found

    def one(self, tag: str = "", cls: str = "", **attributes: str) -> "Element":
        found = self.all(tag, cls, **attributes)
        assert len(found) == 1, f"{len(found)} of <{tag} class={cls!r} {attributes}>"
        return found[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {k: v or "" for k, v in attrs})
        self.open[-1].children.append(made)
        if tag not in _EMPTY:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(path: Path) -> Element:
    """The parsed page; fails where a tag is left open or closed out of turn."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert len(reader.open) == 1, f"left open: {[e.tag for e in reader.open[1:]]}"
    return reader.open[0]
