"""The score step on a real cluster: every distinct image against the study's texts, once, in a table of its own."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.images import decode
from seewhy.progress import Reporter
from seewhy.siglip import TextImageModel
from seewhy.steps import fetch, score
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study, tables
from seewhy.study import Study, check_study, load_study
from tests.siglip_models import MAKERS

COUNT = 12
TEXTS = ["a photo of a cat", "red", "薔薇"]
SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 4}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """12 photos: rows 1 and 2 share their bytes, row 3 is no image, row 4 no decodable one once it is fetched."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = [["photo", "stars"]]
    for i in range(COUNT):
        noise = rng.integers(0, 255, (5, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"photos/{i}.png")
        lines.append([f"photos/{i}.png", str(i)])
    (tmp_path / "photos/2.png").write_bytes((tmp_path / "photos/1.png").read_bytes())
    (tmp_path / "photos/3.png").write_text("<html>gone</html>")
    Image.new("RGB", (1, 300), "red").save(tmp_path / "photos/4.png")
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    MAKERS["siglip"](tmp_path / "siglip")
    return tmp_path


def study_of(home: Path, **asked: object) -> Study:
    value = {
        "title": "Photos",
        "workspace": "out",
        "manifest": {"path": "photos.csv", "image": "photo", "target": "stars"},
        "fetch": {"resources": SMALL},
        "caption": {"backend": "fake", "resources": SMALL},
        "score": {"model": "./siglip", "texts": TEXTS, "device": "cpu", "resources": SMALL, **asked},
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
def test_every_distinct_image_is_scored_once_and_a_rerun_does_nothing(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    waiting = {plan.step: plan for plan in plans(study)}["score"]
    assert (waiting.new, waiting.note) == (None, "waits for fetch, which has 12 new rows")
    with pytest.raises(Fatal, match="score needs fetch to be complete: 12 of 12 rows are missing"):
        score.run(study, Reporter(quiet=True))
    fetch.run(study, Reporter(quiet=True))
    score.run(study, Reporter(quiet=True))
    counts = score.table(study).counts()
    assert (counts.rows_in, counts.ok, counts.reasons) == (10, 9, {"bad_input/too_narrow": 1})

    images = fetch.table(study).read(["image_id", "image"]).to_pylist()
    by_id = {one["image_id"]: one["image"] for one in images if one["image"] is not None}
    model = TextImageModel(model=str(home / "siglip"), device="cpu")
    texts = model.text_embeddings(TEXTS)
    for row in score.table(study).read().to_pylist():
        if row[schema.REASON] is None:
            logits = model.logits(model.image_embeddings([model.prepared(decode(by_id[row["id"]]))]), texts)[0]
            assert row["logits"] == pytest.approx(logits.tolist(), abs=1e-5)
            assert row["probabilities"] == pytest.approx(torch.sigmoid(logits).tolist(), abs=1e-6)

    said = io.StringIO()
    score.run(study_of(home, batch_size=2), Reporter(stream=said))
    assert said.getvalue().startswith("score: nothing to do, 10 rows: 9 ok, 1 bad_input (too_narrow 1)")
    other = study_of(home, texts=TEXTS[:2])
    assert {plan.step: plan.new for plan in plans(other)}["score"] == 10
    found = {one["table"]: one for one in tables(other) if one["table"].startswith("score/")}
    assert [(one["current"], one["counts"]["ok"]) for one in found.values()] == [(False, 9)]


def test_a_study_without_the_section_has_no_such_stage(home: Path) -> None:
    study = study_of(home).model_copy(update={"score": None})
    forget()
    with pytest.raises(Fatal, match="this study has no stage 'score'"):
        run_study(study, Reporter(quiet=True), only="score")
    with pytest.raises(Fatal, match="this study has no section `score`"):
        score.run(study, Reporter(quiet=True))
    assert "score" not in [plan.step for plan in plans(study)]


def test_the_step_comes_before_the_probe_and_beside_captions(home: Path) -> None:
    names = [plan.step for plan in plans(study_of(home))]
    assert names == ["fetch", "caption", "train_text", "explain_words", "score", "probe", "report"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"texts": []}, "score.texts: [] is not allowed: list should have at least 1 item"),
        ({}, "score.texts: missing"),
        ({"texts": ["a", " "]}, "the text ' ' is blank"),
        ({"texts": ["a", "b", "a"]}, "the text 'a' is there twice"),
        ({"texts": ["a"], "templates": ["a photo"]}, "the template 'a photo' has no {} where the text goes"),
        ({"texts": ["a"], "template": ["{}"]}, "score.template: unknown key (did you mean templates?)"),
        ({"texts": ["a"], "resources": {"gpu": 1}}, "score.resources.gpu: unknown key"),
    ],
)
def test_mistakes_in_the_section_are_named(asked: dict, line: str) -> None:
    manifest = {"path": "films.csv", "image": "Poster", "target": "Rating"}
    with pytest.raises(Fatal) as error:
        check_study({"title": "Films", "workspace": "out", "manifest": manifest, "score": asked})
    assert line in str(error.value)


def test_the_section_needs_images(home: Path) -> None:
    manifest = {"path": "films.csv", "text": "Title", "target": "Rating"}
    with pytest.raises(Fatal, match=r"score needs the column of the images \(manifest.image\)"):
        check_study({"title": "Films", "workspace": "out", "manifest": manifest, "score": {"texts": ["a"]}})
    assert study_of(home).score.model == str(home / "siglip")  # ./ is beside the study
    assert study_of(home, model="org/siglip").score.model == "org/siglip"
