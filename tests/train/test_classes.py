"""Confusion and calibration against numbers worked out by hand."""

import numpy as np
import pytest

from seewhy.train.classes import CALIBRATION, CONFUSION, calibration, calibration_error, confusion

# truth, and the probability of the second of two classes
TRUTH = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
OUTPUTS = np.array([[0.9, 0.1], [0.45, 0.55], [0.1, 0.9], [0.05, 0.95], [0.9, 0.1], [0.9, 0.1]])


def test_confusion_counts_every_pair() -> None:
    found = confusion("m", TRUTH, OUTPUTS, ("雨", "晴れ"))
    assert found.schema == CONFUSION
    assert found.to_pylist() == [
        {"model": "m", "truth": "雨", "said": "雨", "rows": 1, "of": 2},
        {"model": "m", "truth": "雨", "said": "晴れ", "rows": 1, "of": 2},
        {"model": "m", "truth": "晴れ", "said": "雨", "rows": 2, "of": 4},
        {"model": "m", "truth": "晴れ", "said": "晴れ", "rows": 2, "of": 4},
    ]
    three = confusion("m", TRUTH, np.hstack([OUTPUTS, np.zeros((6, 1))]), "abc")
    assert three["rows"].to_pylist() == [1, 1, 0, 2, 2, 0, 0, 0, 0]
    assert three["of"].to_pylist() == [2, 2, 2, 4, 4, 4, 0, 0, 0]


def test_calibration_by_hand() -> None:
    # said with 0.9 right, 0.55 wrong, 0.9 right, 0.95 right, 0.9 wrong twice: one in (0.5, 0.75], five in (0.75, 1]
    found = calibration("m", TRUTH, OUTPUTS, bins=4)
    assert found.schema == CALIBRATION
    assert found["rows"].to_pylist() == [0, 0, 1, 5]
    assert found["low"].to_pylist() == [0, 0.25, 0.5, 0.75]
    assert found["high"].to_pylist() == [0.25, 0.5, 0.75, 1.0]
    assert found["confidence"].to_pylist() == [None, None, pytest.approx(0.55), pytest.approx(4.55 / 5)]
    assert found["accuracy"].to_pylist() == [None, None, 0.0, 0.6]
    expected = (0.55 + 4.55 - 3) / 6
    assert calibration_error(TRUTH, OUTPUTS, bins=4) == pytest.approx(expected)


def test_a_bin_holds_its_upper_end() -> None:
    edges = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert calibration("m", np.zeros(3), edges, bins=4)["rows"].to_pylist() == [0, 1, 1, 1]


def test_honest_probabilities_have_a_small_error_and_boasting_a_large_one() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.5, 1, 20_000)
    truth = (rng.random(20_000) > chance).astype(float)
    honest = np.stack([chance, 1 - chance], axis=1)
    assert calibration_error(truth, honest) < 0.02
    boasting = np.tile([0.99, 0.01], (20_000, 1))
    assert calibration_error(truth, boasting) == pytest.approx(0.99 - 0.75, abs=0.01)
    assert calibration("m", truth, honest)["rows"].to_pylist()[:7] == [0] * 7  # 15 bins: the eighth begins at 7 / 15
