"""Studies of videos: whole, by frames and by URI, from manifest to report; and image studies as they were before."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from seewhy import storage, vlm
from seewhy.app.launch import launch
from seewhy.caption_video import FRAME_PX, WHOLE_PROMPT, CaptionVideos
from seewhy.demo.factors import draw_factors
from seewhy.demo.posters import draw_poster
from seewhy.failure import Fatal
from seewhy.images import decode
from seewhy.overlay import encode_jpeg
from seewhy.progress import Reporter
from seewhy.run import read_block
from seewhy.steps import batch, caption, fetch, report
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study
from seewhy.study import Study, check_study, load_study
from seewhy.table import digest
from seewhy.videos.container import MP4
from seewhy.videos.decoder import Decoder
from seewhy.vlm.base import Request
from tests.train.encoders import save_tiny_bert
from tests.videos.made import at, colour, film, video
from tests.vlm.batch_stub import BatchStub
from tests.vlm.gemini_stub import Stub, gemini_stub, words_about
from tests.vlm.key_file import key_file

SMALL = {"cpus_per_worker": 0.5}


def study_of(home: Path, cells: list[str], **sections: Any) -> Study:
    with open(home / "ads.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["clip", "clicks", "name"])
        lines.writerows([cell, str(1000 + place), f"ad {place}"] for place, cell in enumerate(cells))
    value = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "video": "clip", "target": "clicks", "keep": ["name"]},
        "max_failed_fraction": 0.5,
        "train_text": {"encoder": "./encoder", "epochs": 1, "folds": 2, "launcher": "here", "pooling": "mean"},
        "explain_words": {"max_evals": 20, "resources": {**SMALL, "rows_per_block": 5}},
        "probe": {"min_texts": 1, "max_texts": 1.0, "subsamples": 2, "folds": 2},
        "report": {"min_items": 1},
        **sections,
    }
    value["fetch"] = {"resources": SMALL, **value.get("fetch", {})}
    value["caption"] = {"backend": "tiny", "resources": SMALL, **value.get("caption", {})}
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_by_frames_from_manifest_to_report(ray_cluster: None, tmp_path: Path) -> None:
    """Six posters filmed, of which one is there twice, beside a page and a file that is not there."""
    rng = np.random.default_rng(3)
    posters = [draw_poster(draw_factors(rng), rng) for _ in range(5)]
    for place, poster in enumerate(posters):
        (tmp_path / f"{place}.mp4").write_bytes(film([np.asarray(poster)] * 5))
    (tmp_path / "5.mp4").write_bytes((tmp_path / "0.mp4").read_bytes())
    (tmp_path / "6.mp4").write_text("<html>gone</html>")
    save_tiny_bert(tmp_path / "encoder", positions=256)
    study = study_of(tmp_path, [f"{place}.mp4" for place in range(8)], caption={"frames": 1})
    run_study(study, Reporter(quiet=True))
    assert [(label, count, note) for label, count, note in gather(study, step="test").losses] == [
        ("Rows in the manifest", 8, ""),
        ("Rows that can be used", 8, ""),
        ("Video not fetched", -1, "html (bad_input)"),
        ("Video not fetched", -1, "not_found (bad_input)"),
        ("Rows with a video", 6, ""),
        ("Rows with a text and a target", 6, ""),
        ("Share their video with an earlier row", -1, "explained once"),
        ("Distinct videos", 5, ""),
    ]
    videos = fetch.table(study).read(["image_id", "video", "frame"]).to_pylist()
    told = dict(zip(*caption.captioned(study).to_pydict().values(), strict=True))
    tiny, decoder = vlm.load("tiny"), Decoder()
    for row in videos:
        frames = decoder.frames(row["video"], MP4, count=1, size_px=FRAME_PX)
        assert isinstance(frames, list)
        (answer,) = tiny.generate([Request("x", (encode_jpeg(frames[0]),), "")])
        assert told[row["image_id"]] == answer.text
    decoder.close()
    assert len(set(told.values())) >= 4  # posters differ, and so do their captions

    pages = (tmp_path / "out/report/index.html").read_text()
    assert "A model described each video in words." in pages
    assert "changing a video changes clicks" in pages
    assert "All videos" in pages
    shown = sorted((tmp_path / "out/report/thumbs").glob("*.jpg"))
    assert len(shown) == 5
    means = [decode(path.read_bytes()).mean() for path in shown]
    assert sorted(means) == pytest.approx(sorted(np.asarray(one).mean() for one in posters), abs=4)
    forget()
    said = io.StringIO()
    run_study(study, Reporter(stream=said))
    assert said.getvalue().count("nothing to do") == 6
    assert [plan.new for plan in plans(study)] == [0] * 6


@pytest.fixture
def servers() -> Iterator[tuple[Stub, BatchStub]]:
    batches = BatchStub()
    stub = gemini_stub(more=batches.routes())
    yield stub, batches
    stub.close()


def gemini(stub: Stub, **more: Any) -> dict[str, Any]:
    options = {"location": "here", "base_url": stub.url, "tries": 1, "concurrency": 2}
    return {"backend": "gemini", "model": "gemini-2.5-flash", "options": options, **more}


@pytest.mark.ray
def test_gemini_sees_whole_videos(
    ray_cluster: None, tmp_path: Path, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, _ = servers
    key_file(tmp_path, stub, monkeypatch)
    clips = [video(10 + place) for place in range(3)]
    for place, clip in enumerate(clips):
        (tmp_path / f"{place}.mp4").write_bytes(clip)
    study = study_of(tmp_path, [f"{place}.mp4" for place in range(3)], caption=gemini(stub))
    run_study(study, Reporter(quiet=True), until="fetch")
    work = caption.asking(study)
    assert work.stage is CaptionVideos
    rows = CaptionVideos(**work.stage_args)(read_block(work.source, work.source.keys))  # workers have no credentials
    assert sorted(rows["text"].to_pylist()) == sorted(words_about([clip], WHOLE_PROMPT) for clip in clips)
    parts = [call.body["contents"][0]["parts"] for call in stub.calls]
    assert [part[0]["inlineData"]["mimeType"] for part in parts] == ["video/mp4"] * 3
    few = study_of(tmp_path, [f"{place}.mp4" for place in range(3)], caption=gemini(stub, frames=2))
    assert caption.table(few).url != caption.table(study).url
    assert fetch.table(few).url == fetch.table(study).url


@pytest.mark.ray
def test_objects_go_to_gemini_by_their_uris_and_by_batch(
    ray_cluster: None,
    bucket: str,
    tmp_path: Path,
    servers: tuple[Stub, BatchStub],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No byte of a video is in the workspace, and what the service is asked about is the object."""
    stub, batches = servers
    key_file(tmp_path, stub, monkeypatch)
    monkeypatch.setattr(batch, "POLL_SEC", 0.01)
    folder = f"{bucket}/{tmp_path.name}"
    cells = [f"{folder}/{place}" for place in range(3)]
    for place, cell in enumerate(cells):
        storage.write_whole(cell, video(5 + place, form="webm", codec="libvpx"))
    by_uri = {"schemes": ["gs"], "by_uri": True}
    study = study_of(tmp_path, cells, fetch=by_uri, caption=gemini(stub, batch=f"{folder}/batch"))
    run_study(study, Reporter(quiet=True), until="caption")
    rows = fetch.table(study).read().to_pylist()
    assert [(row["video"], row["format"]) for row in rows] == [(None, "WEBM")] * 3
    texts = caption.table(study).read(["text"])["text"].to_pylist()
    assert sorted(texts) == sorted(words_about([cell.encode()], WHOLE_PROMPT) for cell in cells)
    (job,) = batches.jobs.values()
    assert job

    storage.write_whole(cells[0], video(9))  # another object: its caption is another row
    again = study_of(tmp_path, cells, fetch=by_uri, caption=gemini(stub, batch=f"{folder}/batch"))
    assert fetch.table(again).url == fetch.table(study).url

    images = {"path": "ads.csv", "image": "clip", "target": "clicks"}
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    for cell in cells:
        storage.write_whole(cell, picture.getvalue() + cell.encode())
    posters = study_of(tmp_path, cells, manifest=images, fetch=by_uri, caption=gemini(stub, prompt="What is it?"))
    run_study(posters, Reporter(quiet=True), until="fetch")
    work = caption.asking(posters)
    rows_of_images = work.stage(**work.stage_args)(read_block(work.source, work.source.keys))
    asked = [call.body["contents"][0]["parts"][0]["fileData"] for call in stub.asked("What is it?")]
    assert sorted(one["fileUri"] for one in asked) == sorted(cells)
    assert {one["mimeType"] for one in asked} == {"image/png"}
    assert rows_of_images["error_kind"].null_count == 3


def test_frames_in_a_grid_reach_the_packaged_model(tmp_path: Path) -> None:
    """Through the stage's own arguments: a BLIP-2 sees one picture, so four frames come in one."""
    study = study_of(tmp_path, ["a.mp4"], caption={"frames": 4})
    stage = CaptionVideos(**caption._arguments(study))
    (frames,) = stage._requests(block(video(20)))
    assert isinstance(frames, Request)
    (picture,) = frames.images
    assert isinstance(picture, bytes)
    shown = decode(picture)
    assert [colour(shown[y + 8 : y + 40, x + 8 : x + 56]) for y in (0, 48) for x in (0, 64)] == at([2, 7, 12, 17])


def block(clip: bytes) -> Any:
    import pyarrow as pa

    columns = {"id": ["a"], "video": pa.array([clip], pa.large_binary()), "source": ["a.mp4"], "format": ["MP4"]}
    return pa.table({**columns, "seconds": [2.0]})


MANIFEST = {"path": "films.csv", "image": "Poster", "target": "Rating", "keep": ["Title"]}
VIDEOS = {"path": "ads.csv", "video": "clip", "target": "clicks"}


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"backend": "fake"}, "cb8a1de1d4cea604aadfd5881ef19e74"),
        (
            {"backend": "gemini", "model": "gemini-2.5-flash", "options": {"project": "p"}},
            "32bb0789665048f77b21ed09e80890ab",
        ),
        (
            {"backend": "openai", "model": "m", "options": {"base_url": "http://h:1/v1"}},
            "fa80e246c5491a227a4fc2ddfd1a6653",
        ),
    ],
)
def test_tables_of_images_are_called_what_they_were(section: dict[str, Any], name: str) -> None:
    """The names that were written down before there were videos."""
    study = check_study({"title": "Films", "workspace": "out", "manifest": MANIFEST, "caption": section})
    assert digest(fetch._config(study)) == "9e807fb4452db8fbb4ff36d127d76785"
    assert digest(caption.config(study)) == name
    assert digest(report._settings(study)) == "3956095fbebeff64ea0ecd5d456d215d"


def test_the_app_is_for_images() -> None:
    study = check_study({"title": "Ads", "workspace": "out", "manifest": VIDEOS})
    with pytest.raises(Fatal, match="this study is one of videos"):
        launch(study, "study.yaml")


def test_tables_of_videos_are_called_by_what_changes_them() -> None:
    def name(video: bool = True, **section: Any) -> str:
        manifest = VIDEOS if video else {**VIDEOS, "video": None, "image": "clip"}
        given = {"title": "Ads", "workspace": "out", "manifest": manifest, "fetch": section}
        given["caption"] = {"backend": "gemini", "model": "m"}
        return fetch.table(check_study(given)).url

    names = [name(), name(False), name(by_uri=True), name(False, by_uri=True)]
    names += [name(max_video_seconds=60), name(max_video_bytes="5 MB"), name(max_video_pixels=1000)]
    assert len(set(names)) == len(names)
    assert name() == name(max_bytes="1 MB", timeout_sec=3)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"path": "image"}, "path image: works on images alone"),
        ({"path": "both"}, "path both: works on images alone"),
        ({"score": {"texts": ["a dog"]}}, "score: works on images alone"),
        ({"ask": {"questions": ["what?"]}}, "ask: works on images alone"),
        ({"manifest": {**VIDEOS, "image": "poster"}}, "of images (image) or of videos (video), not of both"),
        ({"manifest": MANIFEST, "caption": {"frames": 4}}, "caption.frames is of videos"),
        ({"fetch": {"by_uri": True}}, "it needs captions by gemini"),
        (
            {"fetch": {"by_uri": True}, "caption": {"backend": "gemini", "model": "m", "frames": 2}},
            "nothing to take caption.frames from",
        ),
        (
            {
                "manifest": MANIFEST,
                "path": "both",
                "fetch": {"by_uri": True},
                "caption": {"backend": "gemini", "model": "m"},
            },
            "fetch.by_uri is for captions alone",
        ),
        ({"fetch": {"max_video_bytes": "2 GB"}}, "max_video_bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(sections: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Fatal) as refused:
        check_study({"title": "Ads", "workspace": "out", "manifest": VIDEOS, **sections})
    assert complaint in str(refused.value)
