"""Reference descriptions in Japanese of the demo's street photos, and the way back from a description to its objects.

Objects are named in the order of `districts.OBJECTS`, so that a model which is trained on descriptions has one order
to learn. Nothing here hints at a district.
"""

import re
from collections.abc import Sequence

import numpy as np

from seewhy.demo.districts import OBJECTS, SETTS

# {objects} is replaced by the names joined in one of the ways of _JOINS.
_HOT = (
    "写真では{objects}が強調されています。",
    "モデルは{objects}に注目しています。",
    "{objects}の部分が赤く強調されています。",
    "強調されているのは{objects}です。",
    "熱は{objects}のあたりに集まっています。",
)
_NOTHING_HOT = (
    "特に強調された物はありません。",
    "モデルが注目した物は見当たりません。",
    "どの物も強調されていません。",
)
_SEEN = (
    "写真には{objects}が写っています。",
    "通りには{objects}が見えます。",
    "{objects}のある通りの写真です。",
    "写っているのは{objects}です。",
)
_NOTHING_SEEN = (
    "目立つ物は何も写っていません。",
    "建物のほかに目立つ物はない通りです。",
)
# {setts} is replaced by 石畳と or by nothing. Asphalt goes without saying: a word for it would be there exactly where
# 石畳 is not, and a sparse probe could then take either word for the other.
_BACKGROUND = (
    "背景は{setts}建物です。",
    "奥に{setts}建物が見えます。",
    "{setts}建物が背景にあります。",
    "まわりには{setts}建物が並んでいます。",
)
_JOINS = ("と", "、", "や")

_NAMES = re.compile("|".join(OBJECTS))


def describe(objects: Sequence[str], pavement: str, rng: np.random.Generator, *, heat: bool = True) -> str:
    """A description in one of many wordings.

    Args:
        objects: names to say, in the order of OBJECTS: with `heat` those under the hot region, else all in the photo.
        pavement: one of PAVEMENTS; only SETTS is said.
        heat: whether the photo came with a heat map.
    """
    some, none = (_HOT, _NOTHING_HOT) if heat else (_SEEN, _NOTHING_SEEN)
    wordings = some if objects else none
    join = _JOINS[rng.integers(len(_JOINS))]
    first = wordings[rng.integers(len(wordings))].format(objects=join.join(objects))
    setts = f"{SETTS}と" if pavement == SETTS else ""
    return first + _BACKGROUND[rng.integers(len(_BACKGROUND))].format(setts=setts)


def named(text: str) -> set[str]:
    """The objects that a text names. What is read as one name is not read as another: 自転車 does not name 車."""
    return set(_NAMES.findall(text))


def names_setts(text: str) -> bool:
    return SETTS in text
