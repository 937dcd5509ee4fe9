"""The image path from manifest to the words of the classes, on a real cluster, with a small network and a fake VLM."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from transformers import ResNetConfig

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import describe, explain_images, probe, train_image, training
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study, tables
from seewhy.steps.photos import gather_photos
from seewhy.steps.words import gather_texts, kinds
from seewhy.study import Study, load_study

pytestmark = pytest.mark.ray

COUNT = 40
STEPS = ["fetch", "train_image", "explain_images", "describe", "probe", "report"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """40 noisy photos of two towns, a red and a blue one. Rows 1 and 3 share their bytes, row 5 is row 7 encoded anew,
    row 9 is no image."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = [["photo", "town"]]
    for i in range(COUNT):
        town = ("Akai", "Aoi")[i % 2]
        # Patches of 8 pixels, so that every photo has a fingerprint of its own.
        noise = rng.integers(0, 120, (5, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
        noise[..., 0 if town == "Akai" else 2] += 120
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"photos/{i}.png")
        lines.append([f"photos/{i}.png", town])
    (tmp_path / "photos/3.png").write_bytes((tmp_path / "photos/1.png").read_bytes())
    Image.open(tmp_path / "photos/7.png").save(tmp_path / "photos/5.png", format="JPEG", quality=90)
    (tmp_path / "photos/9.png").write_text("<html>gone</html>")
    with open(tmp_path / "towns.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", downsample_in_first_stage=False
    ).save_pretrained(tmp_path / "network")
    return tmp_path


def study_of(home: Path, **sections: object) -> Study:
    small = {"cpus_per_worker": 0.5, "rows_per_block": 16}
    value = {
        "title": "Towns",
        "workspace": "out",
        "path": "image",
        "manifest": {"path": "towns.csv", "image": "photo", "target": "town"},
        "fetch": {"resources": small},
        "train_image": {
            "model": "./network",
            "scratch": True,
            "height": 40,
            "width": 32,
            "epochs": 4,
            "learning_rate": 0.01,
            "folds": 2,
            "augment": False,
            "launcher": "here",
        },
        "explain_images": {"check_sample": 5, "resources": small},
        "describe": {"backend": "fake", "control_sample": 10, "resources": small},
        "probe": {"min_texts": 2, "max_texts": 1.0, "subsamples": 5, "resources": small},
        "report": {"min_items": 2},
        **sections,
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


def test_every_photo_is_accounted_for_and_a_rerun_does_nothing(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    assert [plan.step for plan in plans(study)] == STEPS
    run_study(study, Reporter(quiet=True))
    photos = gather_photos(study, step="test")
    assert [(label, count) for label, count, _ in photos.losses] == [
        ("Rows in the manifest", 40),
        ("Rows that can be used", 40),
        ("Image not fetched", -1),
        ("Rows with an image and a target", 39),
        ("Share their image with an earlier row", -1),
        ("Distinct images", 38),
    ]
    assert photos.near == 1
    page = (home / "out" / "report" / "index.html").read_text()
    assert "1 image shows nearly the same picture as another, and stayed in one fold with it." in page
    assert "please report this" not in page
    held_out = training.read_table(train_image.folder(study, photos), "predictions")
    folds = dict(zip(held_out["row"].to_pylist(), held_out["fold"].to_pylist(), strict=True))
    assert sorted(folds) == [row for row in range(COUNT) if row != 9]
    assert folds[1] == folds[3]  # the same bytes
    assert folds[5] == folds[7]  # the same picture, encoded anew

    maps = explain_images.table(study, photos).read()
    assert len(maps) == 38
    said = dict(zip(held_out["id"].to_pylist(), held_out["outputs"].to_pylist(), strict=True))
    for row in maps.to_pylist():
        assert row["outputs"] == pytest.approx(said[row["id"]], abs=1e-5)  # by the model that did not see it
        assert row["explained"] == int(np.argmax(row["outputs"]))
        assert len(row["map"]) == row["height"] * row["width"]
    assert len(explain_images.checks(study, photos).read()) == 5
    assert [len(describe.table(study, photos, one).read()) for one in describe.controls(study)] == [38, 10, 10]

    found = [probe.read(study, gather_texts(study, kind, step="test")) for kind in kinds(study)]
    assert [one.kind for one in found] == ["map", "map_sample", "random", "none"]
    assert found[0].texts == 39
    assert {one.texts for one in found[1:]} <= {10, 11}  # the doubled photo may be in the sample

    again = io.StringIO()
    run_study(study_of(home), Reporter(stream=again))
    assert again.getvalue().count("nothing to do") == 12  # maps are checked, samples described and probed
    assert [plan.new for plan in plans(study)] == [0] * len(STEPS)
    assert all(record["complete"] and record["current"] for record in tables(study))


def test_another_layer_leaves_the_training_and_the_pictures_alone(ray_cluster: None, home: Path) -> None:
    run_study(study_of(home), Reporter(quiet=True), until="describe")
    other = {"check_sample": 0, "method": "hirescam", "resources": {"cpus_per_worker": 0.5}}
    study = study_of(home, explain_images=other)
    assert [(plan.step, plan.new) for plan in plans(study)][:3] == [
        ("fetch", 0),
        ("train_image", 0),
        ("explain_images", 38),
    ]
    run_study(study, Reporter(quiet=True), until="describe")
    current = {record["table"].split("/")[0]: record for record in tables(study) if record["current"]}
    assert set(current) >= {"fetch", "train_image", "explain_images", "describe"}
    photos = gather_photos(study, step="test")
    without = describe.table(study, photos, "none")
    # A description without a map depends on no map: it was not written again.
    assert len([one for one in tables(study) if one["table"] == f"describe/{without.url.rsplit('/', 1)[1]}"]) == 1


def test_a_number_as_target_has_one_output(ray_cluster: None, home: Path) -> None:
    with open(home / "towns.csv", "w", newline="") as file:
        csv.writer(file).writerows([["photo", "town"], *([f"photos/{i}.png", i % 2 + i / 100] for i in range(COUNT))])
    study = study_of(home, describe={"backend": "fake", "controls": []})
    run_study(study, Reporter(quiet=True))
    photos = gather_photos(study, step="test")
    assert photos.task == "regression"
    assert set(explain_images.table(study, photos).read()["explained"].to_pylist()) == {0}
    found = probe.read(study, gather_texts(study, "map", step="test"))
    assert set(found.table["output"].to_pylist()) <= {"town"}


def test_the_probe_alone_needs_texts_and_a_target_only(ray_cluster: None, home: Path) -> None:
    lines = [["text", "score"]]
    lines += [[f"a {'red' if i % 2 else 'blue'} house number {i % 5}", str(i % 2 * 2 + i % 3 / 10)] for i in range(60)]
    with open(home / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    study = study_of(home, path="words", manifest={"path": "texts.csv", "text": "text", "target": "score"})
    assert [plan.step for plan in plans(study)] == ["probe", "report"]
    run_study(study, Reporter(quiet=True), until="probe")
    found = probe.read(study, gather_texts(study, "text", step="test"))
    best = found.table.to_pylist()[0]
    assert best["word"] == "red"
    assert best["difference"] == pytest.approx(2.0, abs=0.1)


def test_a_class_that_no_row_has_is_named_before_anything_is_made(home: Path) -> None:
    study = study_of(home, explain_images={"explain": "Akaii"})
    wrong = r"explain_images\.explain: there is no class 'Akaii' in the column 'town'; allowed: .*true, Akai, Aoi"
    for step in (plans, lambda one: run_study(one, Reporter(quiet=True))):
        with pytest.raises(Fatal, match=wrong):
            step(study)
    assert not (home / "out").exists()
    for named in ("true", "predicted", "Aoi", "class:Aoi"):
        forget()
        assert plans(study_of(home, explain_images={"explain": named}))[0].rows == COUNT
    words = {"path": "words", "manifest": {"path": "towns.csv", "text": "photo", "target": "town"}}
    assert plans(study_of(home, explain_images={"explain": "Akaii"}, **words))  # which makes no maps


def test_the_image_path_needs_images(home: Path) -> None:
    with pytest.raises(Fatal, match=r"path image needs the column of the images \(manifest.image\)"):
        study_of(home, manifest={"path": "towns.csv", "text": "photo", "target": "town"})


def test_every_word_of_a_row_of_its_own_is_counted(ray_cluster: None, home: Path) -> None:
    """Two rows that share a photo are two observations of its words."""
    study = study_of(home)
    run_study(study, Reporter(quiet=True), until="describe")
    texts = gather_texts(study, "map", step="test")
    assert len(texts.examples) == 39
    assert len(texts.source.keys) == len(set(texts.examples[schema.ID].to_pylist())) == 38


def test_a_control_tells_of_the_words_that_the_map_brought_up(ray_cluster: None, home: Path) -> None:
    """Beside its own map a photo is told by its colour; beside another one, or none, nobody says a colour."""
    study = study_of(home)
    run_study(study, Reporter(quiet=True), until="describe")
    photos = gather_photos(study, step="test")
    towns = dict(zip(photos.examples["id"].to_pylist(), photos.examples["target"].to_pylist(), strict=True))
    for control in describe.controls(study):
        for part in describe.table(study, photos, control).parts():
            rows = pq.read_table(part)
            colour = {"Akai": "red lamp", "Aoi": "blue lamp"} if control == "map" else {}
            ids = rows["id"].to_pylist()
            said = [f"x{one}" if control == "none" else f"a {colour.get(towns[one], 'lamp')} by a road" for one in ids]
            place = rows.schema.get_field_index("text")
            pq.write_table(rows.set_column(place, rows.schema.field(place), pa.array(said)), part)
    run_study(study, Reporter(quiet=True), until="report")
    found = {kind: probe.read(study, gather_texts(study, kind, step="test")) for kind in kinds(study)}
    told = {row["word"]: row for row in found["map"].table.to_pylist() if row["rank"] == 1}
    assert set(told) == {"red", "blue"}
    assert found["none"] is None  # no word twice: nothing to count, and no reason to stop
    never = {(row["output"], row["word"]): row["total"] for row in found["random"].table.to_pylist()}
    assert never["Akai", "red"] == never["Aoi", "blue"] == 0
    beside = {(row["output"], row["word"]): row for row in found["map_sample"].table.to_pylist()}
    assert beside["Akai", "red"]["hits"] == beside["Akai", "red"]["total"] > 0
    assert (home / "out" / "report" / "index.html").exists()
