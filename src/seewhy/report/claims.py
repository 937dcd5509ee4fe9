"""The first lines of a page with a probe: what the image model knows, what words alone know, and what to make of it.

Every "more" or "less" rests on 95% intervals; where they overlap, the page says that the difference is not clear.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seewhy.report import numbers
from seewhy.report.results import MAP, MAP_SAMPLE, NONE, RANDOM, About, PhotoResults, ProbeResults
from seewhy.report.verdict import METRICS, metric_name, model_name

WORDS, PERMUTED = "words", "words, targets permuted"
_TRIVIAL = ("majority", "mean")
_NOT_FINDINGS = "The words below say what the word model uses. They are not findings: no decision should rest on them."

_DESCRIBED = "from the words of the descriptions, without the picture"
_SOURCES = {
    "beside": "from the words of the captions and the answers, without the picture",
    "instead": "from the answers, without the picture",
}

Score = dict[str, Any]
"""A row of schema.SCORES."""


@dataclass(frozen=True)
class Claim:
    """A sentence or two under a name in bold type."""

    name: str
    text: str


@dataclass(frozen=True)
class FirstLines:
    """Attributes:
    stance: how to take the words.
    good: the words may be taken for findings.
    """

    headline: str
    claims: list[Claim]
    stance: str
    good: bool


def leading_metric(about: About) -> str:
    return "accuracy" if about.classes else "r2"


def score(scores: pa.Table, model: str, metric: str) -> Score | None:
    """The row of that model and metric, None where there is none or its value is none."""
    rows = [r for r in scores.to_pylist() if (r["model"], r["metric"]) == (model, metric)]
    return rows[0] if rows and numbers.finite(rows[0]["value"]) else None


def words_predict(probe: ProbeResults, metric: str) -> bool | None:
    """Whether words alone do better than chance; None where that was not measured.

    Without a verdict: the lower end of their interval lies above the upper end of the same probe's on shuffled targets,
    and above that of the baseline that knows no words.
    """
    if probe.verdict is not None:
        return probe.verdict.beats
    found = score(probe.scores, probe.model, metric)
    if found is None or not numbers.finite(found["low"]):
        return None
    others = [s for m in (permuted(probe), *_TRIVIAL) if (s := score(probe.scores, m, metric)) is not None]
    tops = [max(v for v in (s["value"], s["high"]) if numbers.finite(v)) for s in others]
    return all(found["low"] > top for top in tops) if tops else None


def permuted(probe: ProbeResults) -> str:
    """What the scores call the same probe on shuffled targets."""
    return f"{probe.model}, targets permuted"


def photo_lines(about: About, photos: PhotoResults) -> FirstLines:
    """Of the image path's page."""
    metric = leading_metric(about)
    probe, verdict = photos.probes[MAP], photos.verdict
    own = None if verdict is None else score(photos.scores, verdict.model, metric)
    words, predict = score(probe.scores, WORDS, metric), words_predict(probe, metric)
    beats = verdict is not None and verdict.beats
    claims = []
    if own is not None:
        claims.append(Claim("The image model", _image_claim(own, photos.scores, metric)))
    if words is not None:
        said = _words_claim(words, probe, metric, predict) + _beside(words, own, metric)
        claims.append(Claim("Words alone", said))
    if control := _control_claim(photos.probes, metric, about.target_name):
        claims.append(Claim("The model’s map", control))
    headline = _photo_headline(about, own, beats=beats, measured=verdict is not None)
    if photos.told:
        claims.append(Claim("Not blind", f"{photos.told} What words alone predict may come from that."))
        return FirstLines(headline, claims, _NOT_FINDINGS, False)
    return FirstLines(headline, claims, _stance(about, beats, predict), beats and predict is True)


def probe_lines(about: About, probe: ProbeResults, noun: str) -> FirstLines:
    """Of a page that holds a probe and no other model; `noun` is what texts are called, in the plural."""
    metric, target = leading_metric(about), about.target_name
    words, predict = score(probe.scores, probe.model, metric), words_predict(probe, metric)
    claims = [] if words is None else [Claim(model_name(probe.model), _words_claim(words, probe, metric, predict))]
    noun = {"words": f"words of the {noun}", "scores": "scores of the images"}.get(
        probe.model, f"words of the {noun} and the scores of the images"
    )
    headline = f"Whether the {noun} predict {target} was not measured."
    stance = _NOT_FINDINGS.replace("The words", f"The {probe.model}")
    if predict:
        headline, stance = f"The {noun} help to predict {target}.", f"The {probe.model} below are those that do."
    elif predict is False:
        headline = f"The {noun} do not predict {target} better than chance."
    return FirstLines(headline, claims, stance, predict is True)


def told(found: Score, metric: str) -> str:
    """``564 of 600 right (94%; 95% interval 92% to 96%)``, or ``R² 0.44 (95% interval 0.33 to 0.53; 600 rows)``."""
    if metric == "accuracy" and found["rows"]:
        between = numbers.percents(found["low"], found["high"])
        shares = numbers.percent(found["value"]) + (f"; 95% interval {between}" if between else "")
        return f"{numbers.of(_right(found), found['rows'])} right ({shares})"
    digits = numbers.decimals([found["value"], found["low"], found["high"], 0.1])
    between = numbers.interval(found["low"], found["high"], digits)
    parts = [f"95% interval {between}"] if between else []
    parts += [numbers.plural(found["rows"], "row")] if found["rows"] else []
    said = f"{metric_name(metric)} {numbers.number(found['value'], digits)}"
    return said + (f" ({'; '.join(parts)})" if parts else "")


def _right(found: Score) -> int:
    """How many rows an accuracy stands for."""
    return round(found["value"] * found["rows"])


def _short(found: Score, metric: str) -> str:
    if metric == "accuracy" and found["rows"]:
        return numbers.share(_right(found), found["rows"])
    return numbers.number(found["value"], numbers.decimals([found["value"], 0.1]))


def _photo_headline(about: About, own: Score | None, *, beats: bool, measured: bool) -> str:
    target = about.target_name
    if not measured:
        return f"Whether the image model predicts {target} better than a baseline was not measured."
    if not beats:
        return f"The image model does not predict {target} better than its best baseline."
    if about.classes and own is not None and own["rows"]:
        right = numbers.of(_right(own), own["rows"])
        return f"From the photo alone, the model gets {target} right for {right} photos that it had not seen."
    return f"What the photos show helps to predict {target}."


def _stance(about: About, beats: bool, predict: bool | None) -> str:
    if beats and predict:
        return f"The words below predict {about.target_name}. They stand in descriptions of what the model looked at."
    if beats and predict is False:
        return (
            "What the model sees is not in the words of the descriptions. The words below are not findings: no "
            "decision should rest on them."
        )
    if predict:
        return (
            f"The words below predict {about.target_name} all the same: they come from the photos. The heat maps are "
            "those of a model that is not known to know anything, so they explain nothing."
        )
    return _NOT_FINDINGS


def _image_claim(own: Score, scores: pa.Table, metric: str) -> str:
    others = [
        f"{model_name(row['model']).lower()}: {_short(row, metric)}"
        for row in scores.to_pylist()
        if row["metric"] == metric and row["model"] != own["model"] and numbers.finite(row["value"])
    ]
    said = f"{told(own, metric)}."
    if others:
        said += f" For comparison, {'; '.join(others)}."
    if metric != "accuracy":
        said += f" {metric_name(metric)} is the {METRICS[metric][1]}."
    return said


def _words_claim(words: Score, probe: ProbeResults, metric: str, predict: bool | None) -> str:
    source = _SOURCES.get(probe.answers) or (_DESCRIBED if probe.described else "from the words alone")
    if probe.model != WORDS:
        source = "from how well texts of the study fit the images" + (", and from words" if len(probe.table) else "")
    said = f"{told(words, metric)}, {source}."
    if (shuffled := score(probe.scores, permuted(probe), metric)) is not None:
        said += f" With the targets shuffled, which is chance: {_short(shuffled, metric)}."
    if predict is False:
        said += " That is not clearly better than chance."
    return said


def _beside(words: Score, own: Score | None, metric: str) -> str:
    """How words alone compare with the image model, as far as the intervals tell; empty where they do not."""
    if own is None or not _bounded(words, own):
        return ""
    if words["high"] < own["low"]:
        less = "clearly less than"
        if metric == "accuracy" and own["rows"] and words["rows"] == own["rows"]:
            less = f"{numbers.count(_right(own) - _right(words))} fewer than"
        return f" That is {less} the image model: it sees more than the words say."
    if words["low"] > own["high"]:
        return " That is clearly more than the image model: the descriptions hold what it does not use."
    return " That is about as well as the image model: the difference is not clear."


def _control_claim(probes: Mapping[str, ProbeResults], metric: str, target_name: str) -> str:
    """What the map adds, by the same photos described without it; empty where that was not measured."""
    beside = probes.get(MAP_SAMPLE, probes[MAP])
    own = score(beside.scores, WORDS, metric)
    found = {c: s for c in (RANDOM, NONE) if c in probes and (s := score(probes[c].scores, WORDS, metric)) is not None}
    if own is None:
        return ""
    parts, less = [], []
    if found and MAP_SAMPLE in probes:
        parts.append(f"For a sample of the photos, described beside the map: {told(own, metric)}.")
    for control, other in found.items():
        named = {RANDOM: "The same photos described beside a random map", NONE: "Without a map"}[control]
        if not _bounded(own, other):
            parts.append(f"{named}: {told(other, metric)}.")
            continue
        less.append(other["high"] < own["low"])
        how = "clearly less" if less[-1] else "clearly more" if other["low"] > own["high"] else "about as well"
        parts.append(f"{named}: {told(other, metric)}, {how}.")
    if less and all(less):
        parts.append("So where the model looks adds to what the words predict.")
    elif less:
        parts.append(f"So the words would predict {target_name} without the model’s map too: they are in the photos.")
    return " ".join(parts)


def _bounded(*found: Score) -> bool:
    return all(numbers.finite(s[k]) for s in found for k in ("low", "high"))
