import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.demo.districts import DISTRICTS, NEVER_MATTERS, best_accuracy, planted_words
from seewhy.demo.photo_truth import compare_photos


def probe_table(rows: list[tuple[str, int, str, float]]) -> pa.Table:
    """(output, rank, word, weight), each held by 100 texts of which 80 are of the district."""
    counts = {"hits": 80, "total": 100, "base_rate": 0.25}
    whole = [
        {"output": output, "rank": rank, "word": word, "weight": weight, **counts}
        for output, rank, word, weight in rows
    ]
    return pa.Table.from_pylist(whole, schema=schema.PROBE)


def planted(leave_out: tuple[str, ...] = ()) -> list[tuple[str, int, str, float]]:
    """Each district's planted words first, then 写真 and 背景."""
    rows = []
    for district, words in planted_words().items():
        kept = [word for word in words if word not in leave_out]
        rows += [(district, rank, word, 1 / rank) for rank, word in enumerate([*kept, "写真", "背景"], start=1)]
    return rows


def test_all_words_come_back():
    result = compare_photos(probe_table(planted()), words_accuracy=0.87, image_accuracy=0.9)
    assert result.found == 10
    assert result.passed
    first = result.rows[0]
    assert (first.district, first.word, first.rank, first.hits, first.total) == ("浜風区", "船", 1, 80, 100)
    text = "\n".join(result.lines())
    assert "10 of 10" in text
    assert "80/100" in text
    assert f"words alone 0.870, image model 0.900, best possible {best_accuracy():.3f}" in text


def test_nine_are_enough_and_eight_are_not():
    nine = compare_photos(probe_table(planted(("船",))))
    assert (nine.found, nine.passed) == (9, True)
    assert "NOT in the top 10" in "\n".join(nine.lines())
    eight = compare_photos(probe_table(planted(("船", "石畳"))))
    assert (eight.found, eight.passed) == (8, False)


def test_a_rank_beyond_ten_or_a_word_of_another_district_does_not_count():
    rows = [*planted(("船", "橋")), ("浜風区", 11, "船", 0.01), ("市場通", 8, "橋", 0.2)]
    assert compare_photos(probe_table(rows)).found == 8
    ten = [*planted(("船",)), ("浜風区", 10, "船", 0.01)]
    assert compare_photos(probe_table(ten)).found == 10


def test_a_word_that_speaks_against_a_district_has_no_place_in_it():
    rows = [*planted(("船",)), ("浜風区", 6, "船", -0.5), ("丘の手", 7, NEVER_MATTERS, -0.1)]
    result = compare_photos(probe_table(rows))
    assert result.found == 9
    assert result.never_absent


def test_the_word_that_never_matters_may_only_stand_far_down():
    high = compare_photos(probe_table([*planted(), ("川辺町", 10, NEVER_MATTERS, 0.01)]))
    assert not high.never_absent
    assert not high.passed
    assert high.found == 10
    assert "its rank in 川辺町: 10" in "\n".join(high.lines())
    assert compare_photos(probe_table([*planted(), ("川辺町", 11, NEVER_MATTERS, 0.01)])).passed


def test_a_table_about_something_else_is_refused():
    with pytest.raises(ValueError, match="rating"):
        compare_photos(probe_table([("rating", 1, "船", 1.0)]))
    assert compare_photos(probe_table(planted())).words_accuracy is None
    assert set(planted_words()) == set(DISTRICTS)
