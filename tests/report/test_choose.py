import random
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import choose, plain_word
from seewhy.words.corpus import corpus_words


def word_row(word: str, value: float, low: float | None, high: float | None, items: int = 20) -> dict[str, Any]:
    return {
        "word": word,
        "output": "rating",
        "mean_value": value,
        "mean_abs_value": abs(value),
        "low": low,
        "high": high,
        "count": items,
        "items": items,
        "total": 100,
    }


def words(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema.WORDS)


def explanation(item_id: str, *spans: tuple[str, float]) -> dict[str, Any]:
    held = [{"text": t, "start": 0, "end": 1, "values": [v, -2 * v]} for t, v in spans]
    return {"id": item_id, "fold": 0, "base_values": [0.0, 0.0], "outputs": [0.0, 0.0], "words": held, "sentences": []}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema.EXPLANATIONS)


def scan(tables: list[pa.Table], **changed: Any) -> choose.Scan:
    given: dict[str, Any] = {
        "words": [("neon", 0)],
        "wanted": [],
        "sample": 0,
        "per_end": 1,
        "outputs": 2,
        "seed": 0,
        "word_key": plain_word,
    }
    return choose.scan(tables, **{**given, **changed})


def test_words_are_picked_by_the_end_of_the_interval_nearer_to_zero() -> None:
    chosen = choose.choose_words(
        words(
            word_row("lucky", 0.9, -0.5, 2.3),
            word_row("solid", 0.4, 0.3, 0.5),
            word_row("fair", 0.5, 0.2, 0.8),
            word_row("bad", -0.4, -0.6, -0.2),
            word_row("worse", -0.3, -0.31, -0.29),
        ),
        output="rating",
        top=2,
        min_items=10,
    )
    assert [w.word for w in chosen.up] == ["fair", "solid"]  # picked by 0.3 and 0.2, shown by 0.5 and 0.4
    assert [w.word for w in chosen.down] == ["bad", "worse"]
    assert all(w.sure for w in (*chosen.up, *chosen.down))


def test_rare_and_negligible_words_are_left_out_and_counted() -> None:
    chosen = choose.choose_words(
        words(
            word_row("neon", 1.0, 0.9, 1.1),
            word_row("rare", 5.0, 4.0, 6.0, items=9),
            word_row("the", 0.029, 0.028, 0.030),
            word_row("dim", -0.031, None, None),
            word_row("none", float("nan"), None, None),
        ),
        output="rating",
        top=15,
        min_items=10,
    )
    assert [w.word for w in chosen.up] == ["neon"]
    assert [w.word for w in chosen.down] == ["dim"]
    assert not chosen.down[0].sure
    assert (chosen.words, chosen.rare, chosen.small) == (5, 1, 1)


def test_ends_add_up_a_words_values_in_an_item_and_never_show_one_item_twice() -> None:
    tables = [
        table(explanation("a", ("Neon", 0.5), ("sky", 9.0)), explanation("b", ("neon", 0.2), ("NEON", 0.5))),
        table(explanation("c", ("nEON", -0.1)), explanation("d", ("sky", 3.0)), explanation("e", ("neoN", 0.6))),
    ]
    found = scan(tables, words=[("neon", 0), ("neon", 1), ("absent", 0)], per_end=2)
    assert found.explained == 5
    first = found.ends["neon", 0]
    assert [(i, pytest.approx(v)) for v, i in first.high] == [("b", 0.7), ("e", 0.6)]
    assert [(i, pytest.approx(v)) for v, i in first.low] == [("c", -0.1), ("a", 0.5)]
    assert [i for _, i in found.ends["neon", 1].high] == ["c", "a"]
    assert found.ends["absent", 0] == choose.Ends()
    assert set(found.kept) == {"a", "b", "c", "e"}
    assert found.kept["b"].to_pylist()[0]["words"][1]["text"] == "NEON"


def test_every_word_of_the_corpus_is_found_again_in_its_items() -> None:
    forms = ["Straße", "STRASSE", "C++", "İstanbul", "it's", "cafe\u0301", "ネオン", "—", "U.S.", "ΣΑΣ"]
    rows = table(*(explanation(f"{i}", (form, 0.1 + i)) for i, form in enumerate(forms)))
    named = corpus_words([rows], output_names=["a", "b"], min_items=1, replicates=10).table["word"].unique().to_pylist()
    assert len(named) == len(forms) - 1
    found = scan([rows], words=[(word, 0) for word in named])
    assert sorted(i for e in found.ends.values() for _, i in e.high) == [str(i) for i in range(10) if i != 7]


def test_a_word_in_one_item_has_one_end() -> None:
    ends = scan([table(explanation("a", ("neon", 0.5)))], per_end=3).ends["neon", 0]
    assert ([i for _, i in ends.high], ends.low) == (["a"], [])


def test_failed_rows_are_not_explained() -> None:
    failed = {"id": "f", "error_kind": "bad_input", "reason": "empty", "words": None}
    found = scan([table(failed, explanation("a", ("neon", 0.5)))], wanted=["f", "a"], sample=9)
    assert found.explained == 1
    assert set(found.kept) == {"a"}


def test_a_wrong_number_of_values_a_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="not 3 for each"):
        scan([table(explanation("a", ("neon", 0.5)))], outputs=3)


def test_the_scan_agrees_with_a_plain_loop_whatever_the_order_of_the_tables() -> None:
    draw = random.Random(5)
    rows = [
        explanation(
            f"{i:03}", *((draw.choice(["neon", "Sky", "the"]), round(draw.uniform(-1, 1), 3)) for _ in range(5))
        )
        for i in range(300)
    ]
    sums = {r["id"]: sum(w["values"][0] for w in r["words"] if w["text"] == "Sky") for r in rows}
    holders = [r["id"] for r in rows if any(w["text"] == "Sky" for w in r["words"])]
    expected = sorted(holders, key=lambda i: -sums[i])
    results = []
    for size in (300, 7):
        tables = [table(*rows[i : i + size]) for i in range(0, 300, size)]
        draw.shuffle(tables)
        results.append(scan(tables, words=[("sky", 0)], per_end=3, sample=20, wanted=["007"]))
    for found in results:
        assert [i for _, i in found.ends["sky", 0].high] == expected[:3]
        assert [i for _, i in found.ends["sky", 0].low] == expected[::-1][:3]
        assert len(found.sampled) == 20
        assert "007" in found.kept
        assert len(found.kept) <= 20 + 12 + 1
    assert results[0].sampled == results[1].sampled
    other = scan([table(*rows)], sample=20, seed=1)
    assert set(other.sampled) != set(results[0].sampled)


def test_the_sample_is_uniform() -> None:
    rows = [explanation(f"{i:04}") for i in range(1000)]
    hits = [0] * 10
    for seed in range(40):
        for item_id in scan([table(*rows)], sample=100, seed=seed).sampled:
            hits[int(item_id) // 100] += 1
    assert sum(hits) == 4000
    assert all(330 < h < 470 for h in hits)  # 400 expected, standard deviation 18


def predictions(*rows: tuple[str, float | None, list[float]]) -> pa.Table:
    records = [{"row": n, "id": i, "fold": 0, "target": t, "outputs": o} for n, (i, t, o) in enumerate(rows)]
    return pa.Table.from_pylist(records, schema.PREDICTIONS)


def test_extremes_of_target_prediction_and_error() -> None:
    given = predictions(
        ("low", 1.0, [5.0]), ("high", 9.0, [5.1]), ("exact", 5.0, [5.05]), ("top", 6.0, [8.0]), ("x", None, [2])
    )
    assert choose.extreme_ids(given, classes=False, most=1) == ["low", "high", "x", "top", "exact"]
    assert choose.extreme_ids(given.slice(0, 0), classes=False, most=1) == []


def test_extremes_of_classes_are_the_least_and_most_likely_to_be_right() -> None:
    given = predictions(
        ("sure", 0.0, [0.9, 0.1]), ("wrong", 1.0, [0.95, 0.05]), ("even", 1.0, [0.5, 0.5]), ("x", None, [1, 0])
    )
    assert choose.extreme_ids(given, classes=True, most=1) == ["wrong", "sure"]


def test_pages_are_bounded_and_unique() -> None:
    ids = choose.choose_pages(must=["a", "b"], sampled=["b", "c"], others=["d", "a", "e"], max_pages=4)
    assert ids == ["a", "b", "c", "d"]
    assert choose.choose_pages(must=["a", "b"], sampled=[], others=[], max_pages=1) == ["a"]
