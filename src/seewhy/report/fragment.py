"""Pieces of the report's pages for other pages: an item's coloured words as HTML, and the style that they need."""

from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from seewhy.report import numbers
from seewhy.report.items import Account
from seewhy.report.site import environment

CLASS = "seewhy"
"""Of the element that must hold a fragment: the style reaches no further."""


@cache
def _environment() -> Environment:
    made = environment()
    made.globals["n"] = numbers
    return made


def account_html(account: Account, *, unit: str, text_lang: str, limit: str) -> Markup:
    """How a text led to one output, as an item's page shows it; everything in it is escaped.

    Args:
        unit: of the values.
        text_lang: language tag of the text, or empty.
        limit: the value that gets the full colour, as text; empty: no legend.
    """
    parts = _environment().get_template("account.html").module
    coloured = parts.coloured(account, text_lang, unit, limit, "for every image alike")  # type: ignore[attr-defined]
    steps = parts.steps(account, text_lang, unit)  # type: ignore[attr-defined]
    words = parts.words(account, text_lang, False) if account.words else ""  # type: ignore[attr-defined]
    return Markup(f'<div class="{CLASS}">{coloured}{steps}{words}</div>')


@cache
def style() -> str:
    """The report's style sheet, kept within elements of CLASS by CSS nesting."""
    sheet = (Path(__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
    return f".{CLASS} {{\n{sheet.replace(':root', '&')}\n}}"
