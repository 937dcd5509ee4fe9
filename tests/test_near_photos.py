"""Which photos of a study go together, joined from a table that was fetched here, without a cluster."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image, ImageDraw

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.fetch import Fetch
from seewhy.steps import fetch
from seewhy.steps.once import forget
from seewhy.steps.photos import Photos, gather_photos
from seewhy.study import load_study


def thing_on_white(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (96, 96), "white")
    for _ in range(2):
        across, down = (int(one) for one in rng.integers(10, 26, 2))
        colour = tuple(int(one) for one in rng.integers(0, 200, 3))
        ImageDraw.Draw(picture).ellipse((48 - across, 48 - down, 48 + across, 48 + down), fill=colour)
    return picture


def patches(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((96, 96))


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def gathered(home: Path, photos: list[bytes], **train_image: object) -> Photos:
    lines = [["photo", "town"]]
    for i, data in enumerate(photos):
        (home / f"{i}.png").write_bytes(data)
        lines.append([f"{i}.png", ("Akai", "Aoi")[i % 2]])
    with open(home / "towns.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    value = {
        "title": "Towns",
        "workspace": "out",
        "path": "image",
        "manifest": {"path": "towns.csv", "image": "photo", "target": "town"},
        "train_image": train_image,
        "describe": {"backend": "fake"},
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    study = load_study(str(home / "study.yaml"))
    stage = Fetch(schemes=fetch.schemes(study), roots=fetch.roots(study))
    try:
        fetch.table(study).append(stage(fetch.source(study).keys), generation=1)
    finally:
        stage.close()
    return gather_photos(study, step="test")


def groups(photos: Photos) -> list[int]:
    names: pa.ChunkedArray = photos.examples["group"]
    ids = photos.examples[schema.ID].to_pylist()
    return [ids.index(name) for name in names.to_pylist()]


def test_a_group_that_swallows_the_study_stops_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    things = [png(thing_on_white(rng)) for _ in range(60)]
    others = [png(patches(rng)) for _ in range(60)]
    with pytest.raises(Fatal, match=r"train_image\.near_duplicates is 3: \d\d of the 120 rows") as caught:
        gathered(tmp_path, things + others)
    assert "null" in str(caught.value)
    alone = gathered(tmp_path, things + others, near_duplicates=None)
    assert groups(alone) == list(range(120))


def test_how_much_one_group_may_hold(tmp_path: Path) -> None:
    """With 5 folds a tenth of the rows: 24 of 240 are let pass, 24 of 239 are not."""
    rng = np.random.default_rng(0)
    first = patches(rng)
    same = []
    for i in range(24):
        first.putpixel((0, 0), (i, i, i))
        same.append(png(first))
    others = [png(patches(rng)) for _ in range(216)]
    assert groups(gathered(tmp_path, same + others)) == [0] * 24 + list(range(24, 240))
    with pytest.raises(Fatal, match=r"is 3: 24 of the 239 rows \(24 different images\)"):
        gathered(tmp_path, same + others[1:])
    assert groups(gathered(tmp_path, same + others[1:], folds=4)) == [0] * 24 + list(range(24, 239))


def test_rows_that_share_their_bytes_are_no_look_alikes(tmp_path: Path) -> None:
    """Half of the rows show one photo, in 2 files: it is the study's own, and one fold holds it."""
    rng = np.random.default_rng(0)
    first = patches(rng)
    data = png(first)
    first.putpixel((0, 0), (7, 7, 7))
    photos = gathered(tmp_path, [data] * 30 + [png(first)] + [png(patches(rng)) for _ in range(30)])
    assert groups(photos) == [0] * 31 + list(range(31, 61))
    assert photos.near == 1
