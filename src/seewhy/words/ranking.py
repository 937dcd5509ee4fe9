"""Which of the probe's words are put forward: those that it chooses again from other texts."""

import numpy as np
import pyarrow as pa


def stable_ranks(table: pa.Table, *, min_selection: float) -> pa.Table:
    """Ranks anew, in their old order, the words of each output that are chosen in enough of the subsamples. So are its
    scores, on their own.

    A weight alone is no finding: with many words some fit by chance, and such a word is seldom chosen again. The table
    keeps those words, without a rank.

    Args:
        table: schema.PROBE, the words of an output together and in the order of their ranks.
        min_selection: least share of the subsamples, 0 to 1.
    """
    kept = table["selection"].to_numpy(zero_copy_only=False) >= min_selection
    lists = zip(table["output"].to_pylist(), table["feature"].to_pylist(), strict=True)
    ranks: list[int | None] = []
    counted: dict[tuple[str, str], int] = {}
    for key, one in zip(lists, np.asarray(kept).tolist(), strict=True):
        if one:
            counted[key] = counted.get(key, 0) + 1
        ranks.append(counted[key] if one else None)
    return table.set_column(
        table.schema.get_field_index("rank"), table.schema.field("rank"), pa.array(ranks, pa.int32())
    )
