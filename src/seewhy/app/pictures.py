"""The picture that is looked at: one of the study's, an uploaded file, or what lies behind a web address."""

from dataclasses import dataclass

import pyarrow as pa

from seewhy import schema
from seewhy.failure import Failure
from seewhy.fetch import Fetch
from seewhy.fetch.web import WEB
from seewhy.images import check_image, image_id
from seewhy.steps import fetch
from seewhy.study import Study


@dataclass(frozen=True)
class Picture:
    """Attributes:
    id: hash of the bytes: an uploaded picture that the study holds too is known by it.
    name: what it is called on the page; untrusted.
    data: encoded bytes, checked.
    """

    id: str
    name: str
    data: bytes


def uploaded(study: Study, name: str, data: bytes) -> Picture | Failure:
    """A file's picture, by the study's limits; what it is, its bytes say and not its name."""
    checked = check_image(data, max_pixels=study.fetch.max_pixels, max_bytes=study.fetch.max_bytes)
    return checked if isinstance(checked, Failure) else Picture(image_id(data), name, data)


class WebPictures:
    """Fetches pictures by address under the study's rules: sizes, time-outs, which addresses are out of bounds.

    Only the web: what is typed on a page must not read this machine's files or the study's bucket. One try: a person
    is waiting and can ask again.
    """

    def __init__(self, study: Study) -> None:
        self._fetch = Fetch(**{**fetch.arguments(study), "schemes": WEB, "roots": (), "tries": 1})

    def get(self, url: str) -> Picture | Failure:
        """Failures as of `fetch.Fetch`."""
        row = self._fetch(pa.table({schema.ID: ["asked"], "source": [url.strip()]})).to_pylist()[0]
        if row[schema.ERROR_KIND] is not None:
            return Failure(row[schema.ERROR_KIND], row[schema.REASON], row[schema.DETAIL] or "")
        return Picture(row["image_id"], url.strip().rstrip("/").rsplit("/", 1)[-1], row["image"])

    def close(self) -> None:
        self._fetch.close()
