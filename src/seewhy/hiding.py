"""Secrets taken out of what is told: keys that servers repeat, as they are or encoded, and what URLs hold of them."""

import base64
import re
from urllib.parse import quote, quote_plus

HIDDEN = "***"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://"
_URL = re.compile(rf"({_SCHEME})(.*?)(?=::{_SCHEME}|\Z)", re.DOTALL)  # `zip://a.csv::https://...` is two
_URL_IN_TEXT = re.compile(rf"{_SCHEME}[^\s\"<>]+")
_LOCAL = ("file://", "local://")
_PLACE = re.compile(r"(?:[^/\\?#]*@)?(?P<host>\[[^]/?#]*\](?::\d*)?|[^/\\?#:@]*(?::\d*)?)(?P<path>(?:[/\\][^?#]*)?)")
_SHORTEST_ENCODED = 8
"""Characters of a secret whose encoded forms are looked for: those of shorter ones stand in many texts by chance."""


def without(text: str, secret: str | None) -> str:
    """`text` with HIDDEN wherever the secret stands. Before a text is cut: half a secret would not be found."""
    for form in spellings(secret) if secret else ():
        text = text.replace(form, HIDDEN)
    return text


def spellings(secret: str) -> list[str]:
    """A secret as it is, as URLs, JSON and base64 spell it, base64 within a longer text too; the longest first."""
    found = {secret}
    if len(secret) >= _SHORTEST_ENCODED:
        found |= {quote(secret, safe=""), quote(secret), quote_plus(secret), secret.replace("/", r"\/")}
        data = secret.encode("utf-8", "replace")
        for before in range(3):  # three bytes are four characters: those at the ends depend on what stands beside
            whole = base64.b64encode(bytes(before) + data)
            inner = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6].decode("ascii")
            found |= {inner, inner.replace("+", "-").replace("/", "_"), quote(inner, safe="")}
    return sorted(found, key=lambda form: (-len(form), form))


def shown(url: str) -> str:
    """A URL for people and logs: without user and password, and with HIDDEN for query and fragment: signatures.

    Of a chain of URLs each one. Paths, and all else that is no URL, come back as they are.
    """
    return _URL.sub(_without_secrets, url)


def told(error: object, url: str = "") -> str:
    """What an error says, the URLs in it as `shown` has them; `url` is one that may stand there, spaces and all."""
    text = str(error)
    return _URL_IN_TEXT.sub(lambda found: shown(found[0]), text.replace(url, shown(url)) if url else text)


def _without_secrets(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    if scheme.lower() in _LOCAL:
        return found[0]
    place = _PLACE.match(rest)
    if place is None or rest[place.end() : place.end() + 1] not in ("", "?", "#"):
        return scheme + HIDDEN  # no host is written so: it may be half a password
    return scheme + place["host"] + place["path"] + (f"?{HIDDEN}" if place.end() < len(rest) else "")
