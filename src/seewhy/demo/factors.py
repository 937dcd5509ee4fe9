"""The planted truth: what a demo poster shows and how that moves its rating.

    rating = MEAN + sum over factors of (level's effect) + MATCH * (light and sky agree ? 1 : -1) + noise

A factor's effect is the difference its second level makes against its first, added as +effect/2 and -effect/2, so
that the mean stays MEAN and every term is uncorrelated with every other. Levels are equally likely and independent.
"""

from dataclasses import dataclass

import numpy as np

MEAN = 6.0
MATCH = 0.25
"""A moon in the dark or a sun in the light adds this, the other two pairs take it away: the one interaction."""
NOISE = 0.4
"""Standard deviation of what no picture explains, in rating points."""


@dataclass(frozen=True)
class Factor:
    """One visible difference between posters.

    Attributes:
        effect: rating points that the second level has over the first, all else averaged out.
        words: level -> telling words; none belongs to two levels, so a caption's words lead back to its factors.
    """

    effect: float
    words: dict[str, tuple[str, ...]]

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(self.words)


FACTORS: dict[str, Factor] = {
    "lighting": Factor(0.6, {"dark": ("dark", "shadowy", "gloomy"), "bright": ("bright", "luminous", "radiant")}),
    "palette": Factor(0.5, {"cold": ("cold", "icy", "bluish"), "warm": ("warm", "amber", "fiery")}),
    "people": Factor(-0.4, {"one": ("lone", "solitary", "single"), "three": ("three", "trio", "group")}),
    "place": Factor(-0.3, {"left": ("left",), "right": ("right",)}),
    "object": Factor(0.8, {"car": ("car", "automobile", "sedan"), "dog": ("dog", "hound", "puppy")}),
    "sky": Factor(0.45, {"sun": ("sun", "sunburst", "sunrise"), "moon": ("moon", "crescent", "moonrise")}),
    "land": Factor(0.35, {"mountains": ("mountains", "peaks", "ridges"), "city": ("skyline", "towers", "skyscrapers")}),
    "weather": Factor(-0.35, {"snow": ("snow", "snowflakes", "flurries"), "rain": ("rain", "raindrops", "drizzle")}),
    "title": Factor(-0.5, {"small": ("small", "tiny", "discreet"), "large": ("huge", "giant", "oversized")}),
    "frame": Factor(0.0, {"none": ("frameless", "borderless", "unframed"), "thick": ("framed", "bordered", "boxed")}),
}
"""Factor -> effect and telling words. `frame` has no effect: whatever is found for it is a false alarm."""

NULL_FACTOR = "frame"


def draw_factors(rng: np.random.Generator) -> dict[str, str]:
    """Factor -> level, each level equally likely, independent of all others."""
    return {name: factor.levels[rng.integers(len(factor.levels))] for name, factor in FACTORS.items()}


def expected_rating(factors: dict[str, str]) -> float:
    """The rating without its noise, in points; KeyError for a missing factor, ValueError for an unknown level."""
    total = MEAN
    for name, factor in FACTORS.items():
        level = factors[name]
        if level not in factor.levels:
            raise ValueError(f"{name} {level!r} is not one of {factor.levels}")
        total += factor.effect * (factor.levels.index(level) - 0.5)
    agree = (factors["lighting"] == "dark") == (factors["sky"] == "moon")
    return total + (MATCH if agree else -MATCH)


def rating(factors: dict[str, str], rng: np.random.Generator) -> float:
    """One noisy rating of a poster, in points; the scale is 1 to 10 and the terms cannot leave it but by chance."""
    return expected_rating(factors) + NOISE * float(rng.standard_normal())


def ceiling() -> float:
    """R2 of the truth itself, the best that any model can reach in expectation.

    Terms are uncorrelated, a two-level term of difference e has variance e^2 / 4 and the match MATCH^2, hence
    R2 = S / (S + NOISE^2) with S = sum of e^2 / 4 + MATCH^2.
    """
    signal = sum(factor.effect**2 for factor in FACTORS.values()) / 4 + MATCH**2
    return signal / (signal + NOISE**2)
