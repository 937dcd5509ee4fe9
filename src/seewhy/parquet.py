"""Opens Parquet files that others may have written: columns whose values some code makes are refused.

A column can name an Arrow type of somebody's own, and where a library has registered that name, the library's code
makes the values. `import ray.data` registers one that unpickles them. All Parquet is therefore opened here.
"""

from collections.abc import Collection
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(file: IO[bytes], *, columns: Collection[str] | None = None, **options: Any) -> pq.ParquetFile:
    """A file whose `columns` (all by default) can be read; `options` are ParquetFile's.

    Raises:
        ValueError: one of them is, or holds, a type that is defined in Python. Arrow's errors are its kind, or OSError.
    """
    opened = pq.ParquetFile(file, **options)
    for field in opened.schema_arrow:
        if (columns is None or field.name in columns) and _runs_code(field.type):
            raise ValueError(f"column {field.name!r} is of type {field.type}, which runs code to be read")
    return opened


def _runs_code(kind: pa.DataType) -> bool:
    """Whether a type is, or holds at any depth, one that is defined in Python; Arrow's own, such as uuid, are not."""
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.ExtensionType) or _runs_code(kind.storage_type)
    if pa.types.is_dictionary(kind):  # has no fields
        return _runs_code(kind.value_type)
    return any(_runs_code(kind.field(i).type) for i in range(kind.num_fields))
