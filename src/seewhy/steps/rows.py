"""The manifest's rows, read once a process."""

from functools import lru_cache

from seewhy.manifest import Rows, read_manifest
from seewhy.study import Study


@lru_cache(maxsize=4)
def _read(manifest: str, limit: int | None) -> Rows:
    from seewhy.study import Manifest

    asked = Manifest.model_validate_json(manifest)
    return read_manifest(
        asked.path,
        target=asked.target,
        image=asked.image,
        text=asked.text,
        keep=tuple(asked.keep),
        format=asked.format,
        task=asked.task,
        encoding=asked.encoding,
        limit=limit,
    )


def manifest_rows(study: Study) -> Rows:
    """See `manifest.read_manifest`."""
    return _read(study.manifest.model_dump_json(), study.limit)
