"""HTML of the page, each piece safe by itself: text from outside is escaped, and what hides in it is written out.

Streamlit's own labels, captions and messages are Markdown, in which a text could hide a picture from elsewhere: nothing
that comes from a study, a model or an upload goes through them.
"""

from collections.abc import Iterable, Sequence
from html import escape

from seewhy.report.fragment import CLASS, style
from seewhy.report.safe import visible

STYLE = (
    "<style>"
    + style()
    + """
.stMainBlockContainer { padding-top: 4rem; } /* below Streamlit's own bar */
.seewhy .plot { display: none; } /* Streamlit takes drawings out of HTML; each value stands beside them in words */
.app-title { font-size: 1.6rem; font-weight: 650; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
.app-lead { margin: 0.2rem 0 0; opacity: 0.8; max-width: 75ch; overflow-wrap: anywhere; }
.app-name { font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.app-small { font-size: 0.8rem; line-height: 1.35; margin: 0; opacity: 0.85; overflow-wrap: anywhere; }
.app-head { font-size: 1.15rem; font-weight: 650; margin: 0.8rem 0 0; padding: 0; }
.app-fine { font-size: 0.9rem; line-height: 1.45; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.app-text { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.app-note { font-size: 0.875rem; margin: 0; opacity: 0.8; overflow-wrap: anywhere; }
.app-problem, .app-missing { border-inline-start: 4px solid; padding: 0.5rem 0.8rem; border-radius: 4px; margin: 0;
  overflow-wrap: anywhere; }
.app-problem { border-color: #b2182b; background: rgb(200 40 50 / 0.1); white-space: pre-wrap; }
.app-missing { border-color: #8a93a0; background: rgb(128 136 150 / 0.12); }
.app-missing code, .app-code { font-family: ui-monospace, monospace; font-size: 0.85rem; white-space: pre-wrap; }
.app-clip { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; line-clamp: 2;
  overflow: hidden; min-height: 2.7em; }
.app-facts.app-facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 0 !important;
  padding: 0 !important; }
.app-facts dt { opacity: 0.8; }
.app-facts dt, .app-facts dd { margin: 0; padding: 0; }
.app-facts dd { font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.app-jet { display: inline-block; width: 6rem; height: 0.7rem; border-radius: 3px; vertical-align: -0.05rem;
  background: linear-gradient(90deg, #00007f, #0000ff 12.5%, #00ffff 37.5%, #ffff00 62.5%, #ff0000 87.5%, #7f0000); }
/* its own download would not quote what a spreadsheet takes for a formula, as ours does */
.st-key-history [data-testid="stElementToolbar"] { display: none; }
.st-key-chosen img { width: auto; max-width: 100%; max-height: 20rem; border-radius: 6px; }
@media (max-width: 40rem) { .st-key-chosen img { max-height: 11rem; } }
"""
    + "</style>"
)


def shown(text: object) -> str:
    """`text` as it goes between tags or into a quoted attribute."""
    return escape(visible(str(text)))


def block(text: object, kind: str = "text", tag: str = "p") -> str:
    """One paragraph: kind is `title`, `lead`, `head`, `name`, `text`, `fine`, `small`, `note`, `code`."""
    return f'<{tag} class="app-{kind}" dir="auto">{shown(text)}</{tag}>'


def problem(text: object) -> str:
    return f'<p class="app-problem" role="alert" dir="auto">{shown(text)}</p>'


def missing(what: str, why: str, command: str = "") -> str:
    """What is not there, why, and the command that makes it."""
    how = f"<br>To compute it: <code>{shown(command)}</code>" if command else ""
    return f'<p class="app-missing" dir="auto">No {shown(what)}: {shown(why)}.{how}</p>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<dt dir="auto">{shown(name)}</dt><dd dir="auto">{shown(value)}</dd>' for name, value in pairs)
    return f'<dl class="app-facts">{rows}</dl>'


def table(rows: Sequence[tuple[str, str, str]], head: Sequence[str]) -> str:
    """Three columns, the first text, the others numbers."""
    top = "".join(f'<th scope="col"{" class=num" if i else ""}>{shown(name)}</th>' for i, name in enumerate(head))
    body = "".join(
        f'<tr><th scope="row" dir="auto">{shown(text)}</th>'
        + "".join(f'<td class="num">{shown(number)}</td>' for number in numbers)
        + "</tr>"
        for text, *numbers in rows
    )
    table = f'<table class="chart plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="{CLASS}">{table}</div>'
