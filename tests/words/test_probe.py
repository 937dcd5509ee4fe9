"""The article's table: by hand on six texts, and planted in some hundred; the laws that make it worth reading."""

import numpy as np
import pytest
from scipy import sparse

from seewhy import schema
from seewhy.intervals import wilson
from seewhy.words.evidence import presence
from seewhy.words.held_out import HeldOut, Models, Texts
from seewhy.words.linear import Fit
from seewhy.words.probe import FEATURES, PERMUTED, WORDS, Probe, fit_probe
from seewhy.words.probe_table import EXAMPLES, counted_rows, probe_examples, probe_table
from seewhy.words.stability import Stability

DISTRICTS = ("asahikawa", "chuo", "koto")
PLANTED = {"asahikawa": ("low", "sky"), "chuo": ("box", "lamp"), "koto": ("rail", "sea")}
NAMES = (*(word for words in PLANTED.values() for word in words), *(f"noise{i:02}" for i in range(60)))


def street(texts: int = 450, *, tells: bool = True) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Each district's two words stand in half of its texts and in a tenth of the others; two texts an image."""
    rng = np.random.default_rng(8)
    images = rng.integers(3, size=texts // 2)
    district = np.repeat(images, 2)
    share = np.full((texts, len(NAMES)), 0.2)
    if tells:
        share[:, :6] = np.where(np.arange(6) // 2 == district[:, None], 0.5, 0.1)
    holds = rng.random(share.shape) < share
    return sparse.csr_matrix(holds * rng.integers(1, 4, holds.shape)), district.astype(float), np.arange(texts) // 2


def probed(*, tells: bool = True, **changes: object) -> Probe:
    counts, district, image = street(tells=tells)
    settings = {
        "ids": [f"image{number}" for number in image],
        "classes": DISTRICTS,
        "groups": image.tolist(),
        "folds": 4,
        "subsamples": 50,
        "resamples": 200,
        "here": True,
    }
    return fit_probe(counts, NAMES, district, **settings | changes)


@pytest.fixture(scope="module")
def planted() -> Probe:
    return probed()


def top(probe: Probe, output: str, count: int = 2) -> list[dict[str, object]]:
    rows = [row for row in probe.table.to_pylist() if row["output"] == output]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return rows[:count]


def score(probe: Probe, model: str, metric: str) -> float:
    rows = probe.scores.to_pylist()
    return next(row["value"] for row in rows if (row["model"], row["metric"]) == (model, metric))


def test_planted_words_come_out_first_and_are_chosen_again(planted):
    for district, words in PLANTED.items():
        rows = top(planted, district)
        assert {row["word"] for row in rows} == set(words)
        assert all(row["selection"] == 1.0 for row in rows)
        assert all(row["lift_low"] > 1 for row in rows)
        assert all(row["held_out_total"] == row["total"] for row in rows)  # every fold chose them
    noise = np.maximum(planted.stability.above, planted.stability.below)[:, 6:]
    assert (noise >= 0.9).sum() <= 1
    assert noise.mean() < 0.15


def test_hits_are_those_of_the_counts(planted):
    counts, district, _ = street()
    present = counts.toarray() > 0
    for row in planted.table.to_pylist():
        holds = present[:, NAMES.index(row["word"])]
        mine = district == DISTRICTS.index(row["output"])
        assert (row["hits"], row["total"]) == ((holds & mine).sum(), holds.sum())
        assert row["base_rate"] == pytest.approx(mine.mean())
        assert row["lift"] == pytest.approx(mine[holds].mean() / mine.mean())
        assert row["lift_low"] < row["lift"] < row["lift_high"]
        assert row["held_out_hits"] <= row["hits"]
        assert row["held_out_total"] <= row["total"]
        assert row["mean_with"] is row["difference_low"] is None


def test_the_scores_say_whether_the_words_tell_anything(planted):
    assert score(planted, WORDS, "accuracy") > 0.6
    assert 0.25 < score(planted, "majority", "accuracy") < 0.42
    assert 0.22 < score(planted, PERMUTED, "accuracy") < 0.45
    assert planted.verdict.beats
    assert planted.verdict.metric == "macro_f1"
    noise = probed(tells=False)
    assert score(noise, WORDS, "accuracy") < 0.45
    assert not noise.verdict.beats


def test_texts_of_one_image_are_held_out_together(planted):
    _, _, image = street()
    assert all(len(set(planted.folds[image == one])) == 1 for one in set(image))
    assert np.bincount(planted.folds).min() > 90
    given = (np.arange(225) % 3).repeat(2)
    assert np.array_equal(probed(fold_of_text=given, subsamples=1).folds, given)
    with pytest.raises(ValueError, match="one group in different folds"):
        probed(fold_of_text=np.arange(450) % 3)


def test_examples_hold_the_word_and_are_what_they_are_said_to_be(planted):
    counts, district, image = street()
    present = counts.toarray() > 0
    found = planted.examples.to_pylist()
    assert planted.examples.schema == EXAMPLES
    assert {(row["output"], row["word"]) for row in found} == {
        (row["output"], row["word"]) for row in planted.table.to_pylist()
    }
    for row in found:
        texts = image == int(row["id"].removeprefix("image"))
        assert (present[texts, NAMES.index(row["word"])]).any()
        assert row["hit"] == (district[texts] == DISTRICTS.index(row["output"])).all()
    low = [row["id"] for row in found if row["word"] == "low" and row["output"] == "asahikawa" and row["hit"]]
    assert len(low) == len(set(low)) == 5


def test_numbers():
    counts, _, image = street()
    present = presence(counts).toarray()
    target = 50 + 10 * present[:, 0] - 5 * present[:, 2] + np.random.default_rng(2).normal(size=450)
    changes = {"classes": (), "target_name": "rating", "groups": image.tolist(), "folds": 4, "subsamples": 50}
    found = fit_probe(counts, NAMES, target, ids=image.astype(str).tolist(), here=True, **changes)
    rows = found.table.to_pylist()
    assert (rows[0]["word"], rows[0]["output"], rows[0]["rank"]) == ("low", "rating", 1)
    assert (rows[-1]["word"], rows[-1]["rank"]) == ("box", len(rows))
    assert rows[0]["weight"] == pytest.approx(10, abs=1)
    assert rows[-1]["weight"] == pytest.approx(-5, abs=1)
    holds = present[:, 0] > 0
    assert rows[0]["mean_with"] == pytest.approx(target[holds].mean())
    assert rows[0]["mean_without"] == pytest.approx(target[~holds].mean())
    assert rows[0]["difference_low"] < rows[0]["difference"] < rows[0]["difference_high"]
    assert rows[0]["difference_low"] > 8
    assert rows[0]["selection"] == rows[-1]["selection"] == 1.0
    assert rows[0]["hits"] is rows[0]["held_out_total"] is rows[0]["lift"] is None
    assert score(found, WORDS, "r2") > 0.9
    assert score(found, "mean", "r2") < 0
    assert score(found, PERMUTED, "r2") < 0.05
    assert found.verdict.metric == "rmse"
    hits = [int(row["id"]) for row in found.examples.to_pylist() if row["word"] == "box" and row["hit"]]
    assert all(target[image == one].min() < target.mean() for one in hits)


def test_texts_of_one_image_count_as_one_witness_everywhere():
    counts, _, _ = street()
    twice = sparse.csr_matrix(np.repeat(counts[::2].toarray(), 2, axis=0))
    target = np.repeat(
        3.0 * presence(counts[::2])[:, [0]].toarray().ravel() + np.random.default_rng(1).normal(size=225), 2
    )
    image = np.repeat(np.arange(225), 2)
    widths, penalties = [], []
    for groups in (image.tolist(), None):
        found = fit_probe(
            twice, NAMES, target, ids=image.astype(str).tolist(), groups=groups, subsamples=2, resamples=2000, here=True
        )
        low = found.table.to_pylist()[0]
        assert low["word"] == "low"
        widths.append(low["difference_high"] - low["difference_low"])
        penalties.append(found.penalty)
    assert widths[0] == pytest.approx(np.sqrt(2) * widths[1], rel=0.15)
    assert penalties[0] > 2 * penalties[1]  # a twin among the training texts gives the answer away, noise and all


def test_held_out_hits_flatter_less_than_hits_but_flatter_still():
    """Words without any bearing belong to a class of half of the texts in half of the cases."""
    seen, held_out = np.zeros(2), np.zeros(2)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        target = rng.integers(2, size=300).astype(float)
        share = np.full((300, 150), 0.05)
        share[:, :6] += 0.25 * (target[:, None] == np.arange(6) % 2)
        counts = sparse.csr_matrix((rng.random(share.shape) < share).astype(int))
        words = tuple(f"w{i:03}" for i in range(150))
        found = fit_probe(
            counts, words, target, ids=words * 2, classes=("a", "b"), subsamples=2, resamples=10, seed=seed, here=True
        )
        idle = [row for row in found.table.to_pylist() if row["word"] >= "w006" and row["weight"] > 0]
        seen += [sum(row[name] for row in idle) for name in ("hits", "total")]
        held_out += [sum(row[f"held_out_{name}"] for row in idle) for name in ("hits", "total")]
    assert 0.5 < held_out[0] / held_out[1] < seen[0] / seen[1] - 0.02


def test_copies_of_one_picture_make_no_class_sure():
    """A word of one image that stands in 60 of 160 rows, all of one class."""
    holds = sparse.csr_matrix((np.arange(160) < 60)[:, None].astype(int))
    image = np.where(np.arange(160) < 60, 0, np.arange(160))
    found = fit_probe(
        holds,
        ("only",),
        (np.arange(160) >= 80).astype(float),
        ids=image.astype(str).tolist(),
        classes=("a", "b"),
        groups=image.tolist(),
        folds=2,
        subsamples=10,
        resamples=20,
        here=True,
    )
    only = found.table.to_pylist()[0]
    assert (only["word"], only["output"], only["hits"], only["total"]) == ("only", "a", 60, 60)
    assert only["lift_low"] < 1 < only["lift"]
    single = wilson(np.array([1.0]), np.array([1]))[0][0] / only["base_rate"]
    assert only["lift_low"] == pytest.approx(single)


def test_the_same_seed_gives_the_same_probe_and_another_one_others():
    first, again, other = (probed(seed=seed, subsamples=8) for seed in (1, 1, 2))
    assert first.table.equals(again.table)
    assert first.examples.equals(again.examples)
    assert first.scores.equals(again.scores)
    assert np.array_equal(first.outputs, again.outputs)
    assert not np.array_equal(first.folds, other.folds)
    assert not first.table["selection"].equals(other.table["selection"])


def test_words_of_other_texts_are_counted_by_hand():
    counts = sparse.csr_matrix([[2, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 1]])
    pairs = [("chuo", "sky"), ("koto", "sky"), ("koto", "sea")]
    rows = counted_rows(
        counts, ("sky", "sea", "rail"), np.array([0, 0, 1, 1]), pairs, classes=("chuo", "koto")
    ).to_pylist()
    assert [(row["output"], row["word"], row["hits"], row["total"]) for row in rows] == [
        ("chuo", "sky", 2, 3),
        ("koto", "sky", 1, 3),
        ("koto", "sea", 0, 0),
    ]
    assert rows[0]["lift"] == pytest.approx(2 / 3 / 0.5)
    assert rows[2]["lift"] is rows[2]["lift_low"] is None
    assert all(row[name] is None for row in rows for name in ("rank", "weight", "selection", "held_out_total"))
    number = counted_rows(
        counts, ("sky", "sea", "rail"), np.array([4.0, 2.0, 1.0, 6.0]), [("rating", "sky")], resamples=50
    ).to_pylist()
    assert [(row["mean_with"], row["mean_without"], row["difference"]) for row in number] == [(4.0, 1.0, 3.0)]


@pytest.mark.ray
def test_on_the_cluster_as_here(ray_cluster: None):
    there, here = probed(subsamples=8, here=False), probed(subsamples=8)
    assert there.table.equals(here.table)
    assert there.scores.equals(here.scores)
    assert there.examples.equals(here.examples)


def test_features_by_hand():
    made = {name: make(sparse.csr_matrix([[0, 1, 3]])).toarray()[0] for name, make in FEATURES.items()}
    assert made["presence"].tolist() == [0, 1, 1]
    assert made["counts"].tolist() == [0, 1, 3]
    assert made["log_counts"] == pytest.approx([0, np.log(2), np.log(4)])


@pytest.mark.parametrize("changes", [{"multinomial": True}, {"features": "counts"}, {"features": "log_counts"}])
def test_other_models_and_features_find_the_planted_words_too(changes):
    found = probed(subsamples=2, **changes)
    assert all({row["word"] for row in top(found, district)} == set(words) for district, words in PLANTED.items())


def test_two_classes_mirror_one_another():
    counts, district, _ = street()
    found = fit_probe(
        counts, NAMES, (district == 2).astype(float), ids=["x"] * 450, classes=("no", "yes"), here=True, subsamples=4
    )
    by_word = {(row["output"], row["word"]): row for row in found.table.to_pylist()}
    yes, no = by_word["yes", "sea"], by_word["no", "sea"]
    assert yes["weight"] == -no["weight"] > 0
    assert yes["selection"] == no["selection"] == 1.0
    assert yes["hits"] + no["hits"] == yes["total"] == no["total"]
    assert yes["rank"] <= 2
    assert no["rank"] == max(row["rank"] for row in by_word.values() if row["output"] == "no") - yes["rank"] + 1


# Six texts, two classes (a: 0 to 2, b: 3 to 5) in two folds (0, 1, 3 | 2, 4, 5), over the words sky, tower, lamp.
SIX = sparse.csr_matrix([[2, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 3, 1], [1, 1, 0]])


def six() -> tuple[Texts, Models]:
    target = np.array([0, 0, 0, 1, 1, 1], dtype=float)
    folds = np.array([0, 0, 1, 0, 1, 1], dtype=np.int32)
    weights = np.array([[2.0, 0.0, -0.5], [-2.0, 1.0, 1.0]])
    signs = {0: np.array([[1, 0, 1], [-1, 1, 0]], np.int8), 1: np.array([[1, -1, -1], [0, 1, 0]], np.int8)}
    held_out = HeldOut(np.full((6, 2), 0.5), signs, {0: 0.1, 1: 0.1})
    fit = Fit("one_vs_rest", weights, np.zeros(2))
    texts = Texts(presence(SIX), target, target, np.arange(6), folds, 2, "one_vs_rest", 2, 0)
    return texts, Models(fit, 0.1, held_out, held_out)


def test_six_texts_by_hand():
    texts, models = six()
    stability = Stability(np.full((2, 3), 0.9), np.full((2, 3), 0.2), np.ones(2), 10, 0.1)
    words = ["sky", "tower", "lamp"]
    found = probe_table(texts, texts.x, words, ["a", "b"], models, stability, resamples=10)
    assert found.schema == schema.PROBE
    shown = ["output", "rank", "word", "weight", "hits", "total", "held_out_hits", "held_out_total", "selection"]
    assert [tuple(row[name] for name in shown) for row in found.to_pylist()] == [
        # sky: texts 0, 1, 2 of a and 5 of b; both folds' probes speak for it
        ("a", 1, "sky", 2.0, 3, 4, 3, 4, 0.9),
        # lamp: 0 of a, 4 of b; only the probe of fold 1 speaks against it, and of its texts only 4 holds it
        ("a", 2, "lamp", -0.5, 1, 2, 0, 1, 0.2),
        # equal weights by letter; lamp is chosen with all texts at hand alone
        ("b", 1, "lamp", 1.0, 1, 2, 0, 0, 0.9),
        # tower: 1 of a, 3, 4 and 5 of b
        ("b", 2, "tower", 1.0, 3, 4, 3, 4, 0.9),
        # sky: the probe of fold 0 speaks against it, whose texts 0 and 1 hold it; that of fold 1 does not
        ("b", 3, "sky", -2.0, 1, 4, 0, 2, 0.2),
    ]
    assert found["base_rate"].to_pylist() == [0.5] * 5
    assert found["lift"].to_pylist() == pytest.approx([1.5, 1.0, 1.0, 1.5, 0.5])
    low, high = found["lift_low"][0].as_py(), found["lift_high"][0].as_py()
    assert (low, high) == pytest.approx((2 * 0.3006, 2 * 0.9544), abs=1e-3)  # Wilson's interval of 3 of 4
    drawn = probe_examples(texts, texts.x, words, ["a", "b"], models, ids=list("uvwxyz"), most=2)
    rows = [row for row in drawn.to_pylist() if (row["output"], row["word"]) == ("b", "tower")]
    assert {row["id"] for row in rows if row["hit"]} < set("xyz")
    assert sum(row["hit"] for row in rows) == 2
    assert [row["id"] for row in rows if not row["hit"]] == ["v"]


def test_without_words_the_table_is_empty():
    _, district, image = street()
    nothing = sparse.csr_matrix((450, 0), dtype=np.int32)
    found = fit_probe(nothing, (), district, ids=image.astype(str).tolist(), classes=DISTRICTS, here=True, subsamples=2)
    assert found.table.equals(schema.PROBE.empty_table())
    assert not found.verdict.beats
    assert found.outputs.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"classes": ("only",)}, "2 or more are needed"),
        ({"classes": ("one", "two")}, "none of 0 to 1"),
        ({"features": "tfidf"}, "'tfidf'; allowed: presence, counts, log_counts"),
        ({"ids": ["x"]}, "1 ids"),
        ({"folds": 1}, "2 or more"),
    ],
)
def test_what_does_not_fit_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        probed(**changes)


def test_a_target_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="text c has the target nan"):
        fit_probe(SIX, ["a", "b", "c"], np.array([1, 2, np.nan, 1, 2, 3]), ids=list("abcdef"))
