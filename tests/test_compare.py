"""Two sets of predictions, words and answers held against each other: by hand, by enumeration, by formula, by law."""

import itertools

import numpy as np
import pytest
from scipy.stats import t as student

from seewhy.compare import (
    Word,
    closer_by,
    count_answers,
    furthest_apart,
    joint_groups,
    matched,
    paired_scores,
    shared_words,
)
from seewhy.intervals import bootstrap_tails

TARGET = np.array([1.0, 2.0, 3.0, 6.0])
FIRST = np.array([[2.0], [2.0], [5.0], [5.0]])  # errors 1 0 2 -1
SECOND = np.array([[1.0], [2.0], [3.0], [4.0]])  # errors 0 0 0 -2


def by_metric(target: np.ndarray, first: np.ndarray, second: np.ndarray, groups: np.ndarray, **settings: int) -> dict:
    return {one.metric: one for one in paired_scores(target, first, second, groups=groups, **settings)}


def test_numbers_by_hand() -> None:
    # squared errors 6 and 4 of 4 rows; squared deviations from the mean 14
    found = by_metric(TARGET, FIRST, SECOND, np.arange(4))
    assert list(found) == ["r2", "rmse"]
    assert found["r2"].first.value == pytest.approx(1 - 6 / 14)
    assert found["r2"].second.value == pytest.approx(1 - 4 / 14)
    assert found["r2"].gain.value == pytest.approx(2 / 14)
    assert found["rmse"].gain.value == pytest.approx(np.sqrt(1.5) - 1)  # less is better, so the second is


def test_classes_by_hand() -> None:
    target = np.array([0, 0, 1, 1])
    first = np.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75], [0.5, 0.5]])  # says 0 1 1 0
    second = np.array([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [0.75, 0.25]])  # says 0 0 1 0
    found = by_metric(target, first, second, np.arange(4))
    assert list(found) == ["accuracy", "macro_f1", "log_loss"]
    assert (found["accuracy"].first.value, found["accuracy"].second.value) == (0.5, 0.75)
    assert found["macro_f1"].gain.value == pytest.approx((4 / 5 + 2 / 3) / 2 - 0.5)
    # both lose log(2) and log(4/3) once and log(4) once; the first log(2) more, the second too: nothing gained
    assert found["log_loss"].first.value == pytest.approx((2 * np.log(2) + np.log(4) + np.log(4 / 3)) / 4)
    assert found["log_loss"].gain.value == pytest.approx(0.0, abs=1e-12)


def test_the_rows_that_either_comes_closer_to_by_hand() -> None:
    assert closer_by(TARGET, FIRST, SECOND).tolist() == [1.0, 0.0, 2.0, -1.0]  # errors 1 0 2 1 less 0 0 0 2
    said = np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[0.75, 0.25], [0.5, 0.5]])
    assert closer_by(np.array([0, 1]), *said).tolist() == [0.25, -0.25]
    closer = np.array([1.0, 0.0, 2.0, -1.0, 2.0, -3.0, 1.5])
    # of a and of b only the row that tells most, of equals the first; no row that tells nothing
    assert furthest_apart(closer, ["b", "b", "a", "c", "a", "b", "d"], most=2) == ([5, 3], [2, 6])
    assert furthest_apart(closer, list("abcdefg"), most=9) == ([5, 3], [2, 4, 6, 0])
    assert furthest_apart(np.zeros(2), ["a", "b"], most=2) == ([], [])


def test_the_interval_of_three_groups_is_that_of_all_their_draws() -> None:
    """With three groups the widened tails reach the ends: the least and the largest gain of the 27 draws."""
    target = np.array([1.0, 4.0, 2.0, 7.0, 0.0, 3.0])
    first, second = (
        np.array([[2.0], [2.0], [2.0], [6.0], [1.0], [5.0]]),
        np.array([[1.0], [3.0], [5.0], [7.0], [2.0], [3.0]]),
    )
    found = by_metric(target, first, second, np.array([0, 0, 1, 1, 2, 2]))
    gains: dict[str, list[float]] = {"r2": [], "rmse": []}
    for draw in itertools.product(range(3), repeat=3):
        rows = [row for group in draw for row in (2 * group, 2 * group + 1)]
        errors = [((one[rows, 0] - target[rows]) ** 2).mean() for one in (first, second)]
        gains["rmse"].append(np.sqrt(errors[0]) - np.sqrt(errors[1]))
        gains["r2"].append((errors[0] - errors[1]) / target[rows].var())
    assert bootstrap_tails(np.array([3]))[0] < 1e-6
    for metric, all_draws in gains.items():
        assert found[metric].gain.low == pytest.approx(min(all_draws), rel=1e-4, abs=1e-9)
        assert found[metric].gain.high == pytest.approx(max(all_draws), rel=1e-4, abs=1e-9)


def test_the_interval_of_a_mean_is_student_s() -> None:
    """The log loss is a mean, so its gain is one: d -+ t s / sqrt(n) of the rows' own differences."""
    rng = np.random.default_rng(0)
    rows = 60
    target = rng.integers(2, size=rows)
    chances = rng.uniform(0.2, 0.8, size=(2, rows))
    first, second = (np.stack([1 - one, one], axis=1) for one in chances)
    gain = by_metric(target, first, second, np.arange(rows), resamples=40_000)["log_loss"].gain
    losses = [-np.log(one[np.arange(rows), target]) for one in (first, second)]
    difference = losses[0] - losses[1]
    half = student.ppf(0.975, rows - 1) * difference.std(ddof=1) / np.sqrt(rows)
    assert gain.value == pytest.approx(difference.mean())
    assert gain.low == pytest.approx(difference.mean() - half, abs=0.05 * half)
    assert gain.high == pytest.approx(difference.mean() + half, abs=0.05 * half)


def noisy(rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    target = rng.normal(size=rows)
    shared = target + rng.normal(size=rows)  # what is hard for one is hard for the other
    return target, *((shared + 0.2 * rng.normal(size=rows))[:, None] for _ in range(2))


def test_a_row_told_twice_is_no_second_witness() -> None:
    target, first, second = noisy()
    rows = np.arange(len(target))
    once = by_metric(target, first, second, rows)
    twice = np.repeat(rows, 2)
    tied = by_metric(target[twice], first[twice], second[twice], twice)
    apart = by_metric(target[twice], first[twice], second[twice], np.arange(len(twice)))
    for metric, one in once.items():
        assert tied[metric].gain.low == pytest.approx(one.gain.low)
        assert tied[metric].gain.high == pytest.approx(one.gain.high)
        widths = [found[metric].gain.high - found[metric].gain.low for found in (once, apart)]
        assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.1)


def test_what_is_hard_for_both_cancels_out() -> None:
    found = by_metric(*noisy(), np.arange(200))["rmse"]
    widths = [one.high - one.low for one in (found.first, found.second, found.gain)]
    assert widths[2] < 0.5 * np.hypot(*widths[:2])


@pytest.mark.parametrize("classes", [1, 3])
def test_nothing_is_better_than_itself(classes: int) -> None:
    rng = np.random.default_rng(2)
    outputs = rng.dirichlet(np.ones(3), size=50) if classes == 3 else rng.normal(size=(50, 1))
    target = rng.integers(3, size=50) if classes == 3 else rng.normal(size=50)
    for one in paired_scores(target, outputs, outputs.copy(), groups=np.arange(50) // 2):
        assert (one.gain.value, one.gain.low, one.gain.high) == (0, 0, 0)
        assert not one.gain.clear
        assert one.first == one.second
        assert one.first.low < one.first.value < one.first.high


def test_one_group_has_no_interval_and_wrong_shapes_are_refused() -> None:
    found = by_metric(TARGET, FIRST, SECOND, np.zeros(4))["r2"]
    assert (found.gain.low, found.first.high, found.gain.clear) == (None, None, False)
    for wrong in ((TARGET[:3], FIRST, SECOND), (TARGET, FIRST[:3], SECOND[:3]), (TARGET[:0], FIRST[:0], SECOND[:0])):
        with pytest.raises(ValueError, match="outputs"):
            paired_scores(*wrong, groups=np.arange(len(wrong[0])))


def test_rows_go_with_their_like() -> None:
    first, second = matched(["a", "b", "b", "c", "b"], ["b", "d", "a", "b"])
    assert first.tolist() == [0, 1, 2]
    assert second.tolist() == [2, 0, 3]  # the first b with the first, the third with none
    assert [len(one) for one in matched(["a"], [])] == [0, 0]


def test_rows_are_tied_that_either_ties() -> None:
    # 0-1 by the first, 1-2 by the second, 4-5 by both; 3 alone
    found = joint_groups(["x", "x", "y", "z", "w", "w"], [1, 2, 2, 3, 4, 4])
    assert found[0] == found[1] == found[2]
    assert found[4] == found[5]
    assert len(set(found.tolist())) == 3
    alone = joint_groups(list("abc"), list("abc"))
    assert len(set(alone.tolist())) == 3


def word(name: str, sign: int = 1, rank: int = 1, output: str = "rating") -> Word:
    return Word(output, name, sign, rank, 0.1 * sign, 10, 100)


def test_words_by_hand() -> None:
    first = [word("sun"), word("dog", rank=2), word("rain", -1), word("car", -1, 2)]
    second = [word("dog"), word("sun", rank=2), word("rain", 1, 3), word("moon", rank=4), word("sun", output="votes")]
    found = shared_words(first, second)
    assert [(a.word, a.rank, b.rank) for a, b in found.both] == [("sun", 1, 2), ("dog", 2, 1)]
    assert [(a.word, a.sign, b.sign) for a, b in found.turned] == [("rain", -1, 1)]
    assert [one.word for one in found.only_first] == ["car"]
    assert [(one.word, one.output) for one in found.only_second] == [("moon", "rating"), ("sun", "votes")]


def test_a_list_has_all_its_words_in_common_with_itself() -> None:
    words = [word("sun"), word("rain", -1), word("dog", rank=2), word("sun", -1, output="votes")]
    found = shared_words(words, list(words))
    assert {one for one, _ in found.both} == set(words)
    assert all(one == other for one, other in found.both)
    assert (found.turned, found.only_first, found.only_second) == ([], [], [])


def test_answers_by_hand() -> None:
    kinds = [None, "rejected", "rejected", "rejected", "transient", "bad_input", None, "rejected"]
    reasons = [
        "truncated",  # a remark on a row that is ok
        "empty_answer",
        "prompt_blocked_safety",
        "cut_before_text",
        "http_429",
        "no_image",
        None,
        "prompt_blocked_safety",
    ]
    found = count_answers(kinds, reasons)
    assert (found.asked, found.answered, found.empty, found.refused, found.failed) == (8, 2, 2, 2, 2)
    assert found.reasons == {
        "bad_input/no_image": 1,
        "rejected/cut_before_text": 1,
        "rejected/empty_answer": 1,
        "rejected/prompt_blocked_safety": 2,
        "transient/http_429": 1,
    }
