"""Looking up, in Arrow, what one table says of another's rows, with a reason for every row that is lost."""

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.manifest import Rows

Losses = list[tuple[str, int, str]]
"""(label, count, note): a count of 0 or more says how many rows are left at that point, a negative one how many were
lost on the way to the next."""


def manifest_losses(rows: Rows) -> Losses:
    """From the rows of the manifest to those that can be used."""
    return [
        ("Rows in the manifest", rows.read, ""),
        *(("Left out", -count, reason) for reason, count in rows.dropped.items()),
        ("Rows that can be used", len(rows.table), ""),
    ]


def joined(
    table: pa.Table, key: str, found: pa.Table, index: pa.Table, done: str, losses: Losses, thing: str = "image"
) -> pa.Table:
    """The rows of `table` whose `key` was found, with what was found; the others go into `losses` by their reason.

    Args:
        found: two columns, a key and a value; the value's name becomes the new column's.
        index: `Table.index` of the table that was searched; says why a key has no value.
        done: what was done to images in that table, in the past tense.
        thing: what they are, where they are no images.
    """
    column = found.column_names[1]
    table = table.append_column(column, looked_up(table.column(key), found))
    lost = table.filter(pc.is_null(table.column(column))).column(key)
    why_not = looked_up(lost, _reasons(index)).fill_null("missing")
    counted = {one["values"]: one["counts"] for one in pc.value_counts(why_not).to_pylist()}
    losses += [(f"{thing.capitalize()} not {done}", -count, reason) for reason, count in sorted(counted.items())]
    return table.filter(pc.is_valid(table.column(column)))


def looked_up(keys: pa.ChunkedArray, found: pa.Table) -> pa.Array:
    """For each key the second column of `found` where the first one holds it, else null."""
    place = pc.index_in(keys.combine_chunks(), value_set=found.column(0).combine_chunks())
    return found.column(1).combine_chunks().take(place)


def _reasons(index: pa.Table) -> pa.Table:
    """id, ``reason (kind)`` of the rows that failed."""
    failed = index.filter(pc.is_valid(index.column(schema.ERROR_KIND)))
    why = pc.binary_join_element_wise(failed[schema.REASON], " (", failed[schema.ERROR_KIND], ")", "")
    return pa.table({schema.ID: failed[schema.ID], "why": why})


def first_rows(table: pa.Table, key: str) -> pa.Table:
    """The first row of each value of `key`, in the table's order."""
    order = table.select([key]).append_column("order", pa.array(range(len(table)), pa.int64()))
    return table.take(order.group_by(key).aggregate([("order", "min")]).column("order_min").sort())
