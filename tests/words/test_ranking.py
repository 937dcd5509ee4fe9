"""Words that are seldom chosen again lose their rank, and the others close up."""

import pyarrow as pa

from seewhy import schema
from seewhy.words.ranking import stable_ranks


def test_ranks_by_hand() -> None:
    rows = [
        {"output": "a", "rank": 1, "word": "sea", "weight": 2.0, "selection": 1.0},
        {"output": "a", "rank": 2, "word": "fog", "weight": 1.5, "selection": 0.48},
        {"output": "a", "rank": 3, "word": "mast", "weight": 1.0, "selection": 0.5},
        {"output": "b", "rank": 1, "word": "fog", "weight": 0.5, "selection": 0.2},
        {"output": "b", "rank": 2, "word": "hill", "weight": 0.4, "selection": 0.9},
        {"output": "b", "rank": 3, "word": "sea", "weight": -1.0, "selection": 0.8},
    ]
    table = pa.Table.from_pylist(rows, schema.PROBE)
    found = stable_ranks(table, min_selection=0.5)
    assert found["rank"].to_pylist() == [1, None, 2, None, 1, 2]
    assert found.drop(["rank"]).equals(table.drop(["rank"]))
    assert stable_ranks(table, min_selection=0.0)["rank"].to_pylist() == [1, 2, 3, 1, 2, 3]
