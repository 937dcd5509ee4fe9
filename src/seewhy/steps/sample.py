"""A seeded sample of a source's rows that a larger sample contains: what was computed for the smaller one counts."""

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.table import digest_text


def sampled(keys: pa.Table, sample: int | None, seed: int) -> pa.Table:
    """The `sample` rows of the lowest draws, a draw an id, in the order of `keys`; all rows where None."""
    if sample is None or sample >= len(keys):
        return keys
    draws = pa.array([digest_text(f"{seed} {one}") for one in keys[schema.ID].to_pylist()])
    chosen = pc.sort_indices(draws).slice(0, sample)
    return keys.take(pc.take(chosen, pc.sort_indices(chosen)))
