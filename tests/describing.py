"""What the tests of describing share: a backend that keeps what it is shown, photos, and rows with heat maps."""

import io
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from seewhy import vlm
from seewhy.vlm.base import DEFAULT_PROMPT, Answer, Request

MAP = bytes([0, 50, 255, 100, 20, 0])


@dataclass
class Recorder:
    """A backend that keeps what it is given."""

    max_images: int = 2
    default_prompt: str = DEFAULT_PROMPT
    seen: list[Request] = field(default_factory=list)
    options: dict = field(default_factory=dict)

    def generate(self, requests: list[Request]) -> list[Answer]:
        self.seen += requests
        return [Answer(f"text {i}", None, "stop", 3, 4) for i in range(len(requests))]


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    made = Recorder()

    def load(**options) -> Recorder:
        made.options = options
        return made

    monkeypatch.setitem(vlm.LOADERS, "recorder", load)
    return made


def photo(seed: int = 0, *, width: int = 60, height: int = 40) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **settings) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **settings)
    return out.getvalue()


def batch(images, *, maps=None, **columns) -> pa.Table:
    count = len(images)
    maps = [MAP] * count if maps is None else maps
    return pa.table(
        {
            "id": [f"{i:032x}" for i in range(count)],
            "image": pa.array(images, pa.binary()),
            "map": pa.array(maps, pa.binary()),
            "height": pa.array([2] * count, pa.int32()),
            "width": pa.array([3] * count, pa.int32()),
            **columns,
        }
    )


def outputs(*rows):
    return pa.array(rows, pa.list_(pa.float32()))
