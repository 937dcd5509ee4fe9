"""Secrets taken out of what others say: servers tell what key they were shown, as it is or encoded."""

import base64
from urllib.parse import quote, quote_plus

HIDDEN = "***"
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
