"""The planted truth of the street photos: what a photo of each of four made-up districts holds, and how often.

A photo is a Scene: a set of objects, each in one of six places, and a pavement. Objects that stand in every district
equally often come first, each on its own. Then come the objects that are typical of one district, each with its
probability there, drawn again until they fit into the places that are left; at last the pavement. So the first kind
carries no information on the district whatever, and the probability of every scene is a short formula.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

PLACES = 6
"""Objects that a photo can hold: two columns on three terraces."""

TYPICAL: dict[str, tuple[str, ...]] = {
    "浜風区": ("船", "灯台", "クレーン"),
    "市場通": ("屋台", "提灯", "箱"),
    "丘の手": ("鳥居",),
    "川辺町": ("橋", "自転車"),
}
"""District -> objects that are typical of it. Every name is one noun to janome, and so are PLAIN's and PAVEMENTS'."""

DISTRICTS = tuple(TYPICAL)
AT_HOME: dict[str, float] = {"浜風区": 0.75, "市場通": 0.75, "丘の手": 0.9, "川辺町": 0.8}
"""District -> probability there of each of its typical objects, before they must fit into the places. The fewer it
has, the more it needs them: where none is in sight, a model looks anywhere, and no word for it means anything."""
ELSEWHERE = 0.1
"""Probability of a typical object in each other district, before they must fit."""

PLAIN: dict[str, float] = {"電柱": 0.4, "車": 0.4, "信号": 0.4, "風船": 0.35}
"""Object -> its probability, the same in every district."""

NEVER_MATTERS = "風船"

PAVEMENTS = ("石畳", "アスファルト")
SETTS = PAVEMENTS[0]
SETTS_AT: dict[str, float] = {"浜風区": 0.1, "市場通": 0.1, "丘の手": 0.85, "川辺町": 0.1}
"""District -> share of photos on stone setts; the others show asphalt. The one planted word about the background."""

OBJECTS: tuple[str, ...] = (*itertools.chain.from_iterable(TYPICAL.values()), *PLAIN)


def planted_words() -> dict[str, tuple[str, ...]]:
    """District -> its typical words: its objects, and the pavement where that is what tells it."""
    return {
        district: (*objects, *((SETTS,) if SETTS_AT[district] > 0.5 else ())) for district, objects in TYPICAL.items()
    }


@dataclass(frozen=True)
class Scene:
    """What a photo shows. `objects` are in the order of OBJECTS, at most PLACES of them, none twice."""

    objects: tuple[str, ...]
    pavement: str

    def __post_init__(self) -> None:
        if list(self.objects) != [name for name in OBJECTS if name in self.objects] or len(self.objects) > PLACES:
            raise ValueError(f"objects {self.objects} must be at most {PLACES} of {OBJECTS}, in that order")
        if self.pavement not in PAVEMENTS:
            raise ValueError(f"pavement {self.pavement!r} is not one of {PAVEMENTS}")


def draw_district(rng: np.random.Generator, district: str) -> Scene:
    """A scene as that district has them; KeyError for an unknown district."""
    plain = [name for name, share in PLAIN.items() if rng.random() < share]
    chances = _chances(district)
    while True:
        typical = [name for name, share in chances.items() if rng.random() < share]
        if len(typical) + len(plain) <= PLACES:
            break
    pavement = SETTS if rng.random() < SETTS_AT[district] else PAVEMENTS[1]
    return Scene((*typical, *plain), pavement)


def draw_any(rng: np.random.Generator) -> Scene:
    """A scene of no district: any number of objects from none to PLACES, any of them, either pavement."""
    picked = set(rng.permutation(len(OBJECTS))[: rng.integers(PLACES + 1)].tolist())
    objects = tuple(name for index, name in enumerate(OBJECTS) if index in picked)
    return Scene(objects, PAVEMENTS[rng.integers(len(PAVEMENTS))])


def likelihood(scene: Scene, district: str) -> float:
    """P(scene | district).

    P = prod_plain p^x (1 - p)^(1 - x) * [prod_typical p_d^x (1 - p_d)^(1 - x) / P_d(typical <= PLACES - plain)]
        * P_d(pavement)
    """
    chances, plain = _chances(district), 1.0
    for name, share in PLAIN.items():
        plain *= share if name in scene.objects else 1 - share
    typical = 1.0
    for name, share in chances.items():
        typical *= share if name in scene.objects else 1 - share
    room = PLACES - sum(name in scene.objects for name in PLAIN)
    setts = SETTS_AT[district]
    return plain * typical / _fits(district, room) * (setts if scene.pavement == SETTS else 1 - setts)


def posterior(scene: Scene) -> dict[str, float]:
    """District -> P(district | scene), all districts equally frequent."""
    joint = {district: likelihood(scene, district) for district in DISTRICTS}
    total = sum(joint.values())
    return {district: share / total for district, share in joint.items()}


@cache
def best_accuracy() -> float:
    """Accuracy of always naming the likeliest district: the best that any model can reach in expectation.

    Exact: the sum over all scenes of the largest P(scene | district) / 4.
    """
    return sum(max(likelihood(scene, d) for d in DISTRICTS) for scene in all_scenes()) / len(DISTRICTS)


def all_scenes() -> list[Scene]:
    """Every scene that can occur."""
    sets = itertools.chain.from_iterable(itertools.combinations(OBJECTS, size) for size in range(PLACES + 1))
    return [Scene(objects, pavement) for objects in sets for pavement in PAVEMENTS]


def _chances(district: str) -> dict[str, float]:
    """Typical object of any district -> its probability in this one, before it must fit."""
    if district not in TYPICAL:
        raise KeyError(f"district {district!r} is not one of {DISTRICTS}")
    return {
        name: AT_HOME[home] if home == district else ELSEWHERE for home, objects in TYPICAL.items() for name in objects
    }


@cache
def _fits(district: str, room: int) -> float:
    """Probability that at most `room` typical objects are drawn: a sum of independent yes or no's."""
    counts = np.array([1.0])
    for share in _chances(district).values():
        counts = np.convolve(counts, [1 - share, share])
    return float(counts[: room + 1].sum())
