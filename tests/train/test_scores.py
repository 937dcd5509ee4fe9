"""Scores against numbers worked out by hand, and the laws of the bootstrap."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from seewhy import schema
from seewhy.train.scores import beats_baselines, compare, epoch_scores, weighted_scores

TARGET = np.array([1.0, 2.0, 3.0, 6.0])
PREDICTED = np.array([[2.0], [2.0], [5.0], [5.0]])


def test_regression_by_hand() -> None:
    # errors 1 0 2 -1: squares 6, absolute 4; deviations from 3: -2 -1 0 3, squares 14
    # ranks 1 2 3 4 against 1.5 1.5 3.5 3.5: covariance 4, variances 5 and 4
    found = weighted_scores(TARGET, PREDICTED, np.ones((1, 4)))
    assert found["rmse"][0] == pytest.approx(np.sqrt(1.5))
    assert found["mae"][0] == pytest.approx(1.0)
    assert found["r2"][0] == pytest.approx(1 - 6 / 14)
    assert found["spearman"][0] == pytest.approx(4 / np.sqrt(20))


def test_classes_by_hand() -> None:
    # truth 0 0 1 1 2, said 0 1 1 1 1: F1 of 0 is 2/3, of 1 is 4/6, of 2 is 0; class 3 is in neither and does not count
    outputs = np.eye(4)[[0, 1, 1, 1, 1]]
    found = weighted_scores(np.array([0, 0, 1, 1, 2]), outputs, np.ones((1, 5)))
    assert found["accuracy"][0] == pytest.approx(3 / 5)
    assert found["macro_f1"][0] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_log_loss_by_hand() -> None:
    found = epoch_scores(np.array([0.0, 1.0]), np.array([[0.5, 0.5], [0.75, 0.25]]))
    assert found["log_loss"] == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert found["accuracy"] == 0.5
    assert found["calibration_error"] == pytest.approx((0.5 + 0.75) / 2)  # said with 0.5 and right, with 0.75 and wrong
    assert set(epoch_scores(TARGET, PREDICTED)) == {"rmse", "mae", "r2"}


@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_is_as_good_as_a_repeated_row(ties: bool) -> None:
    rng = np.random.default_rng(0)
    target, predicted = rng.normal(size=30), rng.normal(size=(30, 1))
    if ties:
        target, predicted = target.round(), predicted.round()
    weights = rng.integers(0, 4, size=(5, 30)).astype(float)
    found = weighted_scores(target, predicted, weights)
    for r in range(5):
        rows = np.repeat(np.arange(30), weights[r].astype(int))
        plain = weighted_scores(target[rows], predicted[rows], np.ones((1, len(rows))))
        for metric, value in plain.items():
            assert found[metric][r] == pytest.approx(value[0], abs=1e-12), metric
        assert found["spearman"][r] == pytest.approx(spearmanr(target[rows], predicted[rows, 0]).statistic)


def test_weighted_class_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    target, outputs = rng.integers(0, 4, 50), rng.random((50, 4))
    weights = rng.integers(0, 3, size=(4, 50)).astype(float)
    found = weighted_scores(target, outputs, weights)
    for r in range(4):
        expected = f1_score(target, outputs.argmax(1), sample_weight=weights[r], average="macro")
        assert found["macro_f1"][r] == pytest.approx(expected)


def test_the_table_has_an_interval_around_every_value() -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=400)
    outputs = {"mean": np.zeros((400, 1)), "model": (target + rng.normal(size=400))[:, None]}
    table = compare(target, outputs, groups=range(400)).table
    assert table.schema == schema.SCORES
    rows = {(row["model"], row["metric"]): row for row in table.to_pylist()}
    assert ("mean", "spearman") not in rows  # a constant ranks nothing
    for row in rows.values():
        assert row["low"] < row["value"] < row["high"], row
        assert row["rows"] == 400
    # absolute unit noise has the sd sqrt(1 - 2/pi), the mean of 400 a twentieth of it, the interval 2 * 1.96 of that
    mae = rows["model", "mae"]
    assert mae["high"] - mae["low"] == pytest.approx(2 * 1.96 * np.sqrt(1 - 2 / np.pi) / 20, rel=0.15)


def test_the_calibration_error_has_a_value_and_no_interval() -> None:
    rng = np.random.default_rng(2)
    outputs = rng.dirichlet(np.ones(3), 200)
    rows = compare(rng.integers(0, 3, 200), {"model": outputs}, groups=range(200)).table.to_pylist()
    assert [row["metric"] for row in rows] == ["accuracy", "macro_f1", "calibration_error"]
    assert (rows[2]["low"], rows[2]["high"], rows[2]["rows"]) == (None, None, 200)
    assert 0.1 < rows[2]["value"] < 0.6


def test_rows_of_one_group_carry_no_more_information_than_one() -> None:
    rng = np.random.default_rng(3)
    target, said = rng.normal(size=100), rng.normal(size=100)
    single = compare(target, {"m": said[:, None]}, groups=range(100)).table.to_pylist()
    nine = compare(
        np.repeat(target, 9), {"m": np.repeat(said, 9)[:, None]}, groups=np.repeat(np.arange(100), 9).tolist()
    ).table.to_pylist()
    for one, many in zip(single, nine, strict=True):
        assert many["rows"] == 900
        assert [one["value"], one["low"], one["high"]] == pytest.approx([many["value"], many["low"], many["high"]])


def test_draws_are_paired_and_seeded() -> None:
    rng = np.random.default_rng(4)
    target = rng.normal(size=60)
    said = rng.normal(size=(60, 1))
    both = compare(target, {"a": said, "b": said + 1e-9}, groups=range(60))
    np.testing.assert_allclose(both.draws["a"]["rmse"], both.draws["b"]["rmse"], atol=1e-6)
    again = compare(target, {"a": said}, groups=range(60))
    assert np.array_equal(again.draws["a"]["r2"], both.draws["a"]["r2"])
    assert len(set(both.draws["a"]["rmse"])) > 900
    other = compare(target, {"a": said}, groups=range(60), seed=1)
    assert not np.array_equal(other.draws["a"]["rmse"], both.draws["a"]["rmse"])


def test_a_model_beats_the_best_baseline_or_it_does_not() -> None:
    rng = np.random.default_rng(5)
    target = rng.normal(size=300)
    outputs = {
        "mean": np.zeros((300, 1)),
        "ridge": (target + rng.normal(scale=0.5, size=300))[:, None],
        "good": (target + rng.normal(scale=0.3, size=300))[:, None],
        "same": (target + rng.normal(scale=0.5, size=300))[:, None],
    }
    comparison = compare(target, outputs, groups=range(300))
    good = beats_baselines(comparison, model="good", baselines=["mean", "ridge"], metric="rmse")
    assert good.baseline == "ridge"
    assert good.value == pytest.approx(comparison.value("ridge", "rmse") - comparison.value("good", "rmse"))
    assert 0 < good.low < good.value < good.high
    assert good.beats
    same = beats_baselines(comparison, model="same", baselines=["mean", "ridge"], metric="rmse")
    assert same.low < 0 < same.high
    assert not same.beats
    upwards = beats_baselines(comparison, model="good", baselines=["mean", "ridge"], metric="r2")
    assert upwards.baseline == "ridge"
    assert upwards.beats
    with pytest.raises(ValueError, match="spearman"):
        beats_baselines(comparison, model="good", baselines=["mean"], metric="spearman")
