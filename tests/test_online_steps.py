"""A study whose captions a service writes: settings reach the backend, outcomes their rows, and the key no table."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import caption
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import Study, check_study, load_study
from tests.vlm.gemini_stub import Stub
from tests.vlm.openai_stub import KEY, openai_stub

IMAGES = 6


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = openai_stub()
    yield server
    server.close()


def study_of(home: Path, **caption_section: object) -> Study:
    rng = np.random.default_rng(0)
    with open(home / "ads.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["ad", "clicks"])
        for number in range(IMAGES):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(home / f"{number}.png")
            lines.writerow([f"{number}.png", number])
    small = {"cpus_per_worker": 0.5, "rows_per_block": 16}
    value = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "clicks"},
        "max_failed_fraction": 0.5,
        "fetch": {"resources": small},
        "caption": {
            "backend": "openai",
            "model": "qwen",
            "prompt": "What is it?",
            "resources": small,
            **caption_section,
        },
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
def test_captions_by_a_service(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    options = {"base_url": f"{stub.url}/v1", "tries": 2, "backoff_sec": 0.01, "concurrency": 1}
    study = study_of(tmp_path, temperature=0, max_tokens=50, options=options, revision="r1")
    # Of six images, one at a time: the first is refused by a filter, the second fails twice.
    stub.plan["What is it?"] = ["filtered_prompt", "limited", "limited"]
    run_study(study, Reporter(quiet=True), until="caption")
    rows = caption.table(study).read(only_ok=False).to_pylist()
    assert sorted((row["error_kind"] or "ok", row["reason"]) for row in rows) == [
        *[("ok", None)] * 4,
        ("rejected", "prompt_blocked_content_filter"),
        ("transient", "http_429"),
    ]
    assert all(row["text"].endswith("What is it?") and row["tokens_out"] > 0 for row in rows if row["text"])
    body = stub.calls[-1].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("qwen", 0, 50)
    told = caption.config(study)
    assert (told["served"], told["revision"], told["temperature"]) == (None, "r1", 0.0)

    forget()
    run_study(study, Reporter(quiet=True), until="caption")  # the refused one stays refused, unasked
    assert len(stub.calls) == 3 + 4 + 1
    assert caption.table(study).counts(caption.source(study).keys["id"]).ok == 5


def test_an_option_that_the_backend_lacks_is_named(tmp_path: Path) -> None:
    study = study_of(tmp_path, options={"base_url": "http://127.0.0.1:1/v1", "temprature": 1})
    with pytest.raises(Fatal, match=r"backend openai cannot be set up so: .*temprature"):
        caption.config(study)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"backend": "gemini"}, "needs `model`"),
        ({"backend": "openai", "model": "m"}, "base_url"),
        ({"backend": "gemini", "model": "gemini-2.5-flash", "revision": "1"}, "takes no `revision`"),
    ],
)
def test_what_a_service_needs_is_asked_for_at_once(section: dict[str, object], complaint: str) -> None:
    manifest = {"path": "ads.csv", "image": "ad", "target": "clicks"}
    with pytest.raises(Fatal, match=complaint):
        check_study({"title": "Ads", "workspace": "out", "manifest": manifest, "caption": section})


def test_gemini_is_named_by_what_changes_its_answers(tmp_path: Path) -> None:
    told = caption.config(
        study_of(tmp_path, backend="gemini", model="gemini-2.5-flash", options={"location": "us-central1"})
    )
    assert (told["model"], told["location"], told["prompt"]) == ("gemini-2.5-flash", "us-central1", "What is it?")
    assert KEY not in str(told)
