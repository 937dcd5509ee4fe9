import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.demo.captions import level_words
from seewhy.demo.factors import FACTORS, ceiling
from seewhy.demo.truth import compare


def words_table(values: dict[str, tuple[float, int]], output: str = "rating") -> pa.Table:
    rows = [
        {
            "word": word,
            "output": output,
            "mean_value": value,
            "mean_abs_value": abs(value),
            "low": value,
            "high": value,
            "count": items,
            "items": items,
            "total": 600,
        }
        for word, (value, items) in values.items()
    ]
    return pa.Table.from_pylist(rows, schema=schema.WORDS)


def planted(**changed: float) -> dict[str, tuple[float, int]]:
    """Each level told by its first word alone, 300 times, worth half of the planted effect either way."""
    values = {}
    for name, factor in FACTORS.items():
        effect = changed.get(name, factor.effect)
        for side, level in zip((-1, 1), factor.levels, strict=True):
            values[factor.words[level][0]] = (side * effect / 2, 300)
    return values


def test_planted_values_come_back():
    result = compare(words_table(planted()), r2=ceiling() - 0.05)
    assert {row.factor: row.recovered for row in result.rows} == pytest.approx(
        {name: factor.effect for name, factor in FACTORS.items()}
    )
    assert result.rows[0].factor == "object"
    assert result.passed
    assert "signs right: 9 of 9" in "\n".join(result.lines())


def test_values_are_weighed_by_captions_and_companions_count():
    values = planted()
    # dog: 100 captions say "dog" at 0.5, 100 say "hound" at 0.1 and bring "faithful" at 0.3: (50 + 10 + 30) / 200
    values |= {"dog": (0.5, 100), "hound": (0.1, 100), "faithful": (0.3, 100), "car": (-0.2, 150)}
    found = {row.factor: row.recovered for row in compare(words_table(values)).rows}
    assert "faithful" in level_words()["object", "dog"]
    assert found["object"] == pytest.approx(0.45 + 0.2)


def test_case_and_punctuation_do_not_matter():
    values = planted()
    values["Dog."] = values.pop("dog")
    found = {row.factor: row.recovered for row in compare(words_table(values)).rows}
    assert found["object"] == pytest.approx(0.8)


def test_a_wrong_sign_a_loud_null_and_a_poor_fit_each_fail():
    good = ceiling() - 0.09
    wrong = compare(words_table(planted(place=0.3)), r2=good)
    assert not wrong.signs_right
    assert "SIGN WRONG" in "\n".join(wrong.lines())
    loud = compare(words_table(planted(frame=-0.31)), r2=good)
    assert loud.signs_right
    assert not loud.null_below
    poor = compare(words_table(planted()), r2=ceiling() - 0.11)
    assert not poor.fit_near_ceiling
    assert not any(result.passed for result in (wrong, loud, poor))
    assert not compare(words_table(planted())).passed  # no R2, no pass


def test_a_factor_that_nobody_tells_is_not_recovered():
    values = {word: value for word, value in planted().items() if word not in ("dog", "car")}
    result = compare(words_table(values), r2=0.9)
    assert next(row for row in result.rows if row.factor == "object").recovered is None
    assert not result.signs_right
    assert not result.null_below


def test_one_output_at_a_time():
    both = pa.concat_tables([words_table(planted()), words_table(planted(), output="votes")])
    with pytest.raises(ValueError, match="rating"):
        compare(both)
