"""Confusion, calibration, checks of heat maps, and the plot of numbers, against figures worked out by hand."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report.calibration import calibration
from seewhy.report.confusion import confusion
from seewhy.report.faithful import faithful
from seewhy.report.scatter import scatter


def pairs(**counts: int) -> pa.Table:
    rows = [{"truth": pair[0], "predicted": pair[1], "count": count} for pair, count in counts.items()]
    return pa.Table.from_pylist(rows, pa.schema({"truth": pa.string(), "predicted": pa.string(), "count": pa.int64()}))


def test_confusion_counts_shares_and_mistakes() -> None:
    found = confusion(pairs(aa=8, ab=2, bb=5, ba=4, bc=1), ["a", "b", "c"])
    assert found.right == "13 of 20 (65%)"
    assert [[c.count for c in line.cells] for line in found.lines] == [
        ["8", "2", "0"],
        ["4", "5", "1"],
        ["0", "0", "0"],
    ]
    assert [c.strength for c in found.lines[1].cells] == ["0.40", "0.50", "0.10"]
    assert [[c.right for c in line.cells] for line in found.lines] == np.eye(3, dtype=bool).tolist()
    assert [line.right for line in found.lines] == ["8 of 10 (80%)", "5 of 10 (50%)", "0 of 0"]
    assert found.lines[0].cells[1].said == "2 of 10 (20%) of a, taken for b"
    assert found.mistakes == [
        "b taken for a: 4 of 10 (40%)",
        "a taken for b: 2 of 10 (20%)",
        "b taken for c: 1 of 10 (10%)",
    ]


def test_many_classes_get_no_matrix_but_a_line_each() -> None:
    names = [f"c{i}" for i in range(26)]
    rows = [{"truth": n, "predicted": names[0], "count": 2} for n in names]
    found = confusion(pa.Table.from_pylist(rows), names)
    assert not found.matrix
    assert [len(line.cells) for line in found.lines] == [0] * 26
    assert found.lines[0].right == "2 of 2 (100%)"
    assert len(found.mistakes) == 5


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match="holds the class 'x'; the classes are a, b"):
        confusion(pairs(ax=1), ["a", "b"])


def bins(*rows: tuple[float, float, int, float | None, float | None]) -> pa.Table:
    names = ("bin_low", "bin_high", "count", "confidence", "accuracy")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def test_the_calibration_error_is_the_mean_gap_weighted_by_photos() -> None:
    # 10 photos are 20 points too sure, 30 photos 10 points too little: (10 * 20 + 30 * 10) / 40 and (200 - 300) / 40
    found = calibration(bins((0.0, 0.5, 0, None, None), (0.5, 0.75, 10, 0.7, 0.5), (0.75, 1.0, 30, 0.8, 0.9)))
    assert found is not None
    assert found.error == "12.5"
    assert found.photos == "40 photos"
    assert found.leaning == "On the whole it is less sure than it could be, by 2 points."
    assert [(b.label, b.right, b.accuracy, b.confidence, b.few) for b in found.bins] == [
        ("50% to 75%", "5 of 10", "50%", "70%", False),
        ("75% to 100%", "27 of 30", "90%", "80%", False),
    ]
    mark = found.bins[0].mark
    assert mark is not None
    # the scale leaves 4 per cent free on either side: 0.5 lies at 50%, 0.7 at 4 + 92 * 0.7
    assert (mark.bar_from, mark.bar_width, found.bins[0].said) == ("4.00%", "46.00%", "68.40%")


def test_no_photos_no_calibration() -> None:
    assert calibration(bins((0.0, 1.0, 0, None, None))) is None


def checks(deletion: list[float], insertion: list[float], randomised: list[float | None], failed: int = 0) -> pa.Table:
    """Random maps reach 0.5 in either check."""
    rows: list[dict[str, Any]] = [
        {"id": f"p{i}", "deletion": d, "deletion_random": 0.5, "insertion": n, "insertion_random": 0.5, "randomised": r}
        for i, (d, n, r) in enumerate(zip(deletion, insertion, randomised, strict=True))
    ]
    rows += [{"id": f"f{i}", "error_kind": "bad_input", "reason": "no_map"} for i in range(failed)]
    return pa.Table.from_pylist(rows, schema.FAITHFULNESS)


def test_maps_that_beat_random_ones() -> None:
    found = faithful(checks([0.1, 0.3, 0.2, 0.2], [0.8, 0.6, 0.7, 0.3], [0.0, 0.1, 0.2, None], failed=2), classes=True)
    assert found is not None
    deletion, insertion = found.checks
    assert [(line.name, line.value) for line in deletion.lines] == [
        ("The model’s maps", "0.20"),
        ("Random maps", "0.50"),
    ]
    # gains 0.4 0.2 0.3 0.3: mean 0.3, sd 0.08165, 1.96 * sd / 2 = 0.0800
    assert "falls faster than with random maps of the same heat for 4 of 4 (100%) photos" in deletion.sentence
    assert deletion.sentence.endswith("on average by +0.30 (95% interval +0.22 to +0.38).")
    # gains 0.3 0.1 0.2 -0.2: mean 0.1, sd 0.21602, 1.96 * sd / 2 = 0.2117: zero is in the interval
    assert "for 3 of 4 (75%) photos; on average by +0.10 (95% interval −0.11 to +0.31)." in insertion.sentence
    assert (deletion.passed, insertion.passed) == (True, None)
    assert found.headline.startswith("It is not certain")
    assert "its maps are different: they agree with the real ones to 0.10 on average" in found.randomised
    assert found.randomised.endswith("3 photos).")
    assert found.photos == "4 photos checked, 2 could not be"


@pytest.mark.parametrize(
    ("deletion", "insertion", "randomised", "headline"),
    [
        ([0.1, 0.2], [0.8, 0.9], [0.1, 0.1], "The heat maps show places that this model uses"),
        ([0.1, 0.2], [0.8, 0.9], [0.95, 0.93], "hardly depend on what the model learned"),
        ([0.9, 0.8], [0.8, 0.9], [0.1, 0.1], "do worse than random ones in a check"),
    ],
)
def test_what_is_said_of_the_maps(
    deletion: list[float], insertion: list[float], randomised: list[float | None], headline: str
) -> None:
    found = faithful(checks(deletion, insertion, randomised), classes=True)
    assert found is not None
    assert headline in found.headline
    assert found.same_without_model == (randomised[0] == 0.95)


def test_nothing_checked() -> None:
    assert faithful(checks([], [], [], failed=3), classes=True) is None


def numbers(targets: list[float], predicted: list[float]) -> pa.Table:
    rows = [
        {"row": i, "id": str(i), "fold": 0, "target": t, "outputs": [p]}
        for i, (t, p) in enumerate(zip(targets, predicted, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema.PREDICTIONS)


def test_points_lie_on_one_scale_for_both_axes() -> None:
    found = scatter(numbers([0.0, 10.0, 5.0, float("nan")], [0.0, 10.0, 0.0, 3.0]), seed=0)
    assert found is not None
    (x0, y0), (x1, y1), (x2, y2) = [(float(x[:-1]), float(y[:-1])) for x, y in found.points]
    assert x0 == pytest.approx(100 - y0, abs=0.01)
    assert x1 == pytest.approx(100 - y1, abs=0.01)
    assert x2 == pytest.approx((x0 + x1) / 2, abs=0.01)
    assert y2 == y0
    assert found.shown == "3 of 3"
    # The scale is widened by a twentieth of its span at either end.
    assert found.diagonal == (("4.00%", "96.00%"), ("96.00%", "4.00%"))
    assert [t.label for t in found.x_ticks] == [t.label for t in found.y_ticks]


def test_each_fifth_of_the_true_values_has_its_mean_prediction() -> None:
    found = scatter(numbers([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 8, 2, 7, 6, 9, 3, 5, 4]), seed=0)
    assert found is not None
    assert [(p.label, p.predicted, p.rows) for p in found.parts] == [
        ("0 to 1", "4.50", "2"),
        ("2 to 3", "6.00", "2"),
        ("4 to 5", "6.50", "2"),
        ("6 to 7", "5.00", "2"),
        ("8 to 9", "0.50", "2"),
    ]


def test_many_points_are_sampled_and_all_are_counted() -> None:
    targets = np.linspace(0, 1, 5000).tolist()
    found = scatter(numbers(targets, targets), seed=1)
    assert found is not None
    assert len(found.points) == 1500
    assert found.sampled
    assert found.shown == "1,500 of 5,000"
    assert sum(int(p.rows.replace(",", "")) for p in found.parts) == 5000
    again = scatter(numbers(targets, targets), seed=1)
    assert again == found
    assert scatter(numbers([], []), seed=1) is None
