"""Text from outside, made harmless before it reaches a page.

HTML escaping itself is jinja2's (autoescape). Here is what escaping does not cover: characters that a reader cannot
see or that turn the text around, links, file names, and data inside a script file.
"""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import xxhash

from seewhy import hiding

# C0 and C1 controls but tab and line feed, soft hyphen, Arabic letter mark, zero-width and bidi controls, invisible
# operators, BOM, interlinear marks, tag characters, lone surrogates (which no UTF-8 file can hold).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_JOINERS = "\u200c\u200d"
_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_BEGIN_CELLS = ("\t", "\n")  # visible() has written out a carriage return
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[0-9A-Za-z]{1,8}){0,3}")
_SCRIPT_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def visible(text: str) -> str:
    """`text` with each hidden or direction-changing character written out, for instance ``[U+202E]``.

    Zero-width joiners stay where both neighbours are non-ASCII: Persian, Indic scripts and emoji are spelt with them.
    """
    text = text.replace("\r\n", "\n")

    def shown(match: re.Match[str]) -> str:
        mark, at = match.group(), match.start()
        beside = text[at - 1 : at] + text[at + 1 : at + 2]
        if mark in _JOINERS and len(beside) == 2 and not any(c.isascii() for c in beside):
            return mark
        return f"[U+{ord(mark):04X}]"

    return _HIDDEN.sub(shown, text)


def web_link(url: object) -> str | None:
    """`url` if it is an absolute http or https address without hidden characters, else None.

    None too where it holds what may be a secret: a user, a query or a fragment.
    """
    if not isinstance(url, str) or url != visible(hiding.shown(url)).strip() or any(c.isspace() for c in url):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and host else None


def file_name(item_id: str) -> str:
    """A name for the item's files: the id where it is plain, else a hash of it."""
    if _NAME.fullmatch(item_id):
        return item_id
    return "x" + xxhash.xxh128_hexdigest(item_id.encode("utf-8", "surrogatepass"))


def cell(text: str) -> str:
    """`text` for a spreadsheet: what one would take for a formula is quoted as text, and hidden characters written out.

    After https://owasp.org/www-community/attacks/CSV_Injection, full-width signs among them; behind white space too.
    """
    text = visible(text)
    return f"'{text}" if text[:1] in _BEGIN_CELLS or text.lstrip()[:1] in _FORMULAS else text


def language_tag(tag: str) -> str:
    """`tag` if it looks like a BCP 47 language tag, or empty if it is empty; else ValueError."""
    if tag and not _LANGUAGE.fullmatch(tag):
        raise ValueError(f"text_lang {tag!r} is not a language tag such as 'ja', 'en' or 'pt-BR'")
    return tag


def script_assignment(name: str, value: Any) -> str:
    """A script file that sets ``window.<name>``; nothing in `value` can end the script or open a tag."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"window.{name}={body.translate(_SCRIPT_ESCAPES)};\n"
