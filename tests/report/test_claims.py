"""The first lines of a page with a probe: figures with counts and intervals, and no more claimed than they bear."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import About, PhotoResults, ProbeResults, Verdict
from seewhy.report.claims import FirstLines, photo_lines, probe_lines, words_predict
from tests.report.photo_sample import scores

ABOUT = About("t", "q", "district", "classification", ["a", "b"])
RENT = About("t", "q", "rent", "regression")
Figure = tuple[float, float | None, float | None]


def probe(words: Figure | None, permuted: Figure = (0.5, 0.45, 0.55), **changed: Any) -> ProbeResults:
    figures: list[Any] = [] if words is None else [("words", "accuracy", *words)]
    figures += [("words, targets permuted", "accuracy", *permuted), ("majority", "accuracy", 0.5, 0.5, 0.5)]
    empty = pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    return ProbeResults(schema.PROBE.empty_table(), scores(figures, 200), 200, empty, **changed)


def photos(image: Figure, beats: bool | None = True, **probes: ProbeResults) -> PhotoResults:
    figures = [
        ("majority", "accuracy", 0.5, 0.5, 0.5),
        ("logistic_colours", "accuracy", 0.6, 0.55, 0.65),
        ("net", "accuracy", *image),
    ]
    verdict = None if beats is None else Verdict(beats, "accuracy", 0.3, 0.2, 0.4, "logistic_colours", "net")
    return PhotoResults([], scores(figures, 200), verdict, schema.PREDICTIONS.empty_table(), probes, dict, lambda i: i)


def said(lines: FirstLines) -> dict[str, str]:
    return {claim.name: claim.text for claim in lines.claims}


def test_every_figure_has_its_counts_and_its_interval() -> None:
    lines = photo_lines(ABOUT, photos((0.9, 0.85, 0.94), map=probe((0.75, 0.7, 0.8))))
    assert lines.headline == (
        "From the photo alone, the model gets district right for 180 of 200 photos that it had not seen."
    )
    assert said(lines) == {
        "The image model": "180 of 200 right (90%; 95% interval 85% to 94%). For comparison, always the commonest "
        "class: 100 of 200 (50%); colours alone: 120 of 200 (60%).",
        "Words alone": "150 of 200 right (75%; 95% interval 70% to 80%), from the words of the descriptions, without "
        "the picture. With the targets shuffled, which is chance: 100 of 200 (50%). That is 30 fewer than the image "
        "model: it sees more than the words say.",
    }
    assert lines.good
    assert lines.stance.startswith("The words below predict district.")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0.88, 0.83, 0.93), "about as well as the image model: the difference is not clear"),
        ((0.97, 0.95, 0.99), "clearly more than the image model"),
        ((0.75, None, None), ""),
    ],
)
def test_words_beside_the_image_model(words: Figure, expected: str) -> None:
    text = said(photo_lines(ABOUT, photos((0.9, 0.85, 0.94), map=probe(words))))["Words alone"]
    assert expected in text
    assert ("That is" in text) == bool(expected)


@pytest.mark.parametrize(
    ("beats", "words", "headline", "stance"),
    [
        (True, (0.52, 0.45, 0.6), "From the photo alone", "What the model sees is not in the words"),
        (False, (0.75, 0.7, 0.8), "does not predict district better than its best baseline", "all the same"),
        (False, (0.52, 0.45, 0.6), "does not predict district better", "They are not findings"),
        (None, (0.75, 0.7, 0.8), "was not measured", "all the same"),
        (True, None, "From the photo alone", "They are not findings"),
    ],
)
def test_words_are_findings_only_where_both_hold(
    beats: bool | None, words: Figure | None, headline: str, stance: str
) -> None:
    lines = photo_lines(ABOUT, photos((0.9, 0.85, 0.94), beats, map=probe(words)))
    assert headline in lines.headline
    assert stance in lines.stance
    assert not lines.good


def test_no_word_is_a_finding_where_the_describer_knew_the_answer() -> None:
    given = replace(photos((0.9, 0.85, 0.94), map=probe((0.75, 0.7, 0.8))), told="The describer was told the class.")
    lines = photo_lines(ABOUT, given)
    assert said(lines)["Not blind"].startswith("The describer was told the class. ")
    assert "not findings" in lines.stance
    assert not lines.good


@pytest.mark.parametrize(
    ("random", "none", "end"),
    [
        ((0.6, 0.55, 0.65), (0.62, 0.58, 0.66), "So where the model looks adds to what the words predict."),
        ((0.6, 0.55, 0.65), (0.74, 0.7, 0.8), "without the model’s map too: they are in the photos."),
        ((0.6, 0.55, 0.65), (0.9, 0.85, 0.95), "without the model’s map too: they are in the photos."),
    ],
)
def test_what_the_map_adds_is_said_by_the_controls(random: Figure, none: Figure, end: str) -> None:
    given = photos((0.9, 0.85, 0.94), map=probe((0.75, 0.7, 0.8)), random=probe(random), none=probe(none))
    text = said(photo_lines(ABOUT, given))["The model’s map"]
    assert text.startswith(
        "The same photos described beside a random map: 120 of 200 right (60%; 95% interval 55% to 65%), clearly less."
    )
    how = {0.62: "clearly less", 0.74: "about as well", 0.9: "clearly more"}[none[0]]
    assert f"Without a map: {round(200 * none[0])} of 200 right" in text
    assert f"), {how}. So" in text
    assert text.endswith(end)


def test_whether_words_predict() -> None:
    assert words_predict(probe((0.75, 0.7, 0.8)), "accuracy") is True
    assert words_predict(probe((0.75, 0.54, 0.8)), "accuracy") is False  # within what shuffled answers reach
    assert words_predict(probe((0.75, 0.7, 0.8), permuted=(0.7, None, None)), "accuracy") is False
    assert words_predict(probe((0.75, None, None)), "accuracy") is None
    assert words_predict(probe(None), "accuracy") is None
    given = Verdict(True, "macro_f1", 0.1, 0.05, 0.2, "majority", "words")
    assert words_predict(probe((0.5, 0.4, 0.6), verdict=given), "accuracy") is True


def test_a_number_is_judged_by_its_share_of_differences() -> None:
    figures = [("mean", "r2", -0.004, -0.02, 0.0), ("net", "r2", 0.61, 0.5, 0.7), ("net", "rmse", 2.0, 1.8, 2.2)]
    words = [("words", "r2", 0.4, 0.3, 0.5), ("words, targets permuted", "r2", -0.02, -0.05, 0.01)]
    own = probe(None)
    one = ProbeResults(own.table, scores(words, 90), 90, own.texts)
    verdict = Verdict(True, "rmse", 1.0, 0.5, 1.5, "mean", "net")
    given = PhotoResults([], scores(figures, 90), verdict, own.table, {"map": one}, dict, lambda i: i)
    lines = photo_lines(RENT, given)
    assert lines.headline == "What the photos show helps to predict rent."
    assert said(lines)["The image model"] == (
        "R² 0.61 (95% interval 0.50 to 0.70; 90 rows). For comparison, always the average: 0.00. R² is the share of "
        "the differences that is predicted: 1 is perfect, 0 is no better than the average."
    )
    assert said(lines)["Words alone"].endswith("which is chance: −0.02. That is about as well as the image model: the "
                                               "difference is not clear.")  # fmt: skip


def test_a_probe_alone() -> None:
    lines = probe_lines(ABOUT, probe((0.75, 0.7, 0.8), described=False), "texts")
    assert (lines.headline, lines.good) == ("The words of the texts help to predict district.", True)
    assert said(lines)["Words alone"].startswith(
        "150 of 200 right (75%; 95% interval 70% to 80%), from the words alone."
    )
    worse = probe_lines(ABOUT, probe((0.55, 0.5, 0.6)), "captions")
    assert worse.headline == "The words of the captions do not predict district better than chance."
    assert said(worse)["Words alone"].endswith("That is not clearly better than chance.")
    assert not worse.good
    assert "was not measured" in probe_lines(ABOUT, probe(None), "texts").headline
