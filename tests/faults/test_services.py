"""Captions by a service that fails in every way at once, each in its place: counts by kind, and an end in time.

Which image meets what is settled by its bytes, whatever else is in flight.
"""

import base64
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from google.oauth2.credentials import Credentials

from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import caption, fetch
from seewhy.steps.once import forget
from seewhy.steps.vision import run_vision_stage
from seewhy.study import Study, load_study
from tests.drawn_images import draw_images
from tests.vlm.gemini_stub import Stub, gemini_stub
from tests.vlm.openai_stub import openai_stub

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

TRIES, TIMEOUT_SEC, MAX_WAIT_SEC, BLOCK, AT_ONCE = 2, 2.0, 0.5, 20, 10
STARTING_SEC = 60.0
"""For the worker and the desk to come up on a machine that has other things to do."""


@dataclass(frozen=True)
class Trouble:
    """What some of the images meet.

    Attributes:
        faults: of their calls, in order, by the stub's names; calls beyond them are answered.
        outcome: kind and reason of their rows; None where they are answered in the end.
    """

    images: int
    faults: tuple[str, ...]
    outcome: tuple[str, str] | None


def troubles(refusal: tuple[str, str], garbage: tuple[str, ...]) -> list[Trouble]:
    """Of 100 images 34 meet a 500 or a 429, 28 at each of their tries; others hang, or get garbage, or a refusal.

    429s are few: each makes the pace slower for all (see `rates`), whatever the service meant by it.
    """
    return [
        Trouble(26, ("500",) * TRIES, ("transient", "http_500")),
        Trouble(2, ("limited",) * TRIES, ("transient", "http_429")),
        Trouble(4, ("500",), None),
        Trouble(2, ("limited",), None),
        Trouble(6, ("hang",) * TRIES, ("transient", "timeout")),
        Trouble(3, ("hang",), None),
        *(Trouble(2, (one,) * TRIES, ("transient", "malformed_answer")) for one in garbage),
        Trouble(3, (garbage[0],), None),
        Trouble(2, ("drop", "drop"), ("transient", "disconnected")),
        Trouble(4, (refusal[0],), ("rejected", refusal[1])),
        Trouble(3, ("400",), ("bad_input", "http_400")),
    ]


@dataclass(frozen=True)
class Service:
    start: Callable[[], Stub]
    options: Callable[[str], dict[str, Any]]
    troubles: list[Trouble]
    beside: dict[str, Any]
    """Arguments of the stage that cannot stand in a study."""


SERVICES = {
    "openai": Service(
        openai_stub,
        lambda url: {"base_url": f"{url}/v1"},
        troubles(("filtered_answer", "answer_blocked_content_filter"), ("page", "not_json", "not_text", "list")),
        {},
    ),
    "gemini": Service(
        gemini_stub,
        lambda url: {"base_url": url, "project": "p", "location": "here"},
        troubles(("safety", "answer_blocked_safety"), ("page", "not_json", "odd_parts", "list")),
        {"credentials": Credentials(token="fake")},
    ),
}
IMAGES = 100


@pytest.fixture(params=["openai", pytest.param("gemini", marks=pytest.mark.long)])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stub(name: str) -> Iterator[Stub]:
    one = SERVICES[name].start()
    one.planned_by = shown
    yield one
    one.close()


def shown(body: dict[str, Any]) -> str:
    """The hash of the image that a call shows."""
    if "contents" in body:
        (data,) = [part["inlineData"]["data"] for part in body["contents"][0]["parts"] if "inlineData" in part]
    else:
        (url,) = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        data = url.partition(";base64,")[2]
    return hashlib.sha1(base64.urlsafe_b64decode(data.replace("+", "-").replace("/", "_"))).hexdigest()


def study_of(home: Path, name: str, stub: Stub, **options: object) -> Study:
    draw_images(home, IMAGES, table="ads.csv", columns=("ad", "clicks"), height=20, width=30, numbers=IMAGES)
    patience = {"tries": TRIES, "timeout_sec": TIMEOUT_SEC, "max_wait_sec": MAX_WAIT_SEC, "backoff_sec": 0.01}
    small = {"cpus_per_worker": 0.5, "rows_per_block": BLOCK}
    value = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "clicks"},
        "max_failed_fraction": 0.5,
        "fetch": {"resources": small},
        "caption": {
            "backend": name,
            "model": "m",
            "prompt": "What is it?",
            "requests_per_minute": 60_000,
            "options": {**SERVICES[name].options(stub.url), **patience, "concurrency": AT_ONCE, **options},
            "resources": small,
        },
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


def run_captions(study: Study, name: str) -> None:
    """The step, with what a study cannot hold."""
    forget()
    work = caption.asking(study)
    run_vision_stage(
        study, Reporter(quiet=True), replace(work, stage_args={**work.stage_args, **SERVICES[name].beside})
    )


def outcomes(study: Study) -> Counter[tuple[str | None, str | None]]:
    rows = caption.table(study).read(["error_kind", "reason"], only_ok=False).to_pylist()
    return Counter((row["error_kind"], row["reason"]) for row in rows)


def test_each_trouble_is_counted_by_its_kind_and_the_rest_is_answered(
    ray_cluster: None, tmp_path: Path, name: str, stub: Stub, record_property: Callable[[str, object], None]
) -> None:
    study = study_of(tmp_path, name, stub)
    fetch.run(study, Reporter(quiet=True))
    order = np.random.default_rng(1).permutation(IMAGES)  # troubles come at any time, not one kind after the other
    hashes = iter([hashlib.sha1((tmp_path / f"{number}.png").read_bytes()).hexdigest() for number in order])
    expected: Counter[tuple[str | None, str | None]] = Counter()
    calls = 0
    for trouble in SERVICES[name].troubles:
        stub.plan |= {next(hashes): list(trouble.faults) for _ in range(trouble.images)}
        expected[trouble.outcome or (None, None)] += trouble.images
        calls += trouble.images * (len(trouble.faults) + (trouble.outcome is None))
    left = len(list(hashes))
    expected[None, None] += left
    assert expected.total() == IMAGES

    started = time.monotonic()
    run_captions(study, name)
    seconds = time.monotonic() - started
    assert outcomes(study) == expected
    assert len(stub.calls) == calls + left
    # Each request takes its tries and the waits between them at most, AT_ONCE of a block's at a time.
    turns = math.ceil(IMAGES / BLOCK) * math.ceil(BLOCK / AT_ONCE)
    # After a 429 one call at a time finds out when to go on: a second later, twice as late after each that is refused.
    refused = sum(one.images * one.faults.count("limited") for one in SERVICES[name].troubles)
    pauses = sum(min(2**n, 30) for n in range(refused))
    assert seconds < STARTING_SEC + turns * TRIES * (TIMEOUT_SEC + MAX_WAIT_SEC) + pauses

    stub.plan.clear()
    stub.calls.clear()
    run_captions(study, name)  # the service is well again
    lost = sum(count for (kind, _), count in expected.items() if kind == "transient")
    assert len(stub.calls) == lost
    stand = {outcome: count for outcome, count in expected.items() if outcome[0] in ("rejected", "bad_input")}
    assert outcomes(study) == {**stand, (None, None): expected[None, None] + lost}
    told = {"service": name, **{str(one): count for one, count in expected.items()}, "seconds": round(seconds, 1)}
    record_property("told", told)
    print(told)


def test_a_service_that_only_hangs_stops_the_job_in_time(
    ray_cluster: None, tmp_path: Path, name: str, stub: Stub
) -> None:
    """Ten at a time time out after 0.5 s each; once that has gone on for 2 s nothing more is asked."""
    study = study_of(tmp_path, name, stub, tries=1, timeout_sec=0.5, give_up_sec=2.0)
    fetch.run(study, Reporter(quiet=True))
    stub.delay_sec = 3600.0
    started = time.monotonic()
    with pytest.raises(Fatal, match=r"has answered none of the last \d+ requests.* timeout"):
        run_captions(study, name)
    assert time.monotonic() - started < STARTING_SEC + 2.0 + TIMEOUT_SEC
    told = outcomes(study)
    assert set(told) == {("transient", "timeout")}
    assert AT_ONCE <= told["transient", "timeout"] < IMAGES
    assert len(stub.calls) < IMAGES
    assert caption.table(study).done_mark() is None

    stub.delay_sec = 0.0
    stub.calls.clear()
    study = study_of(tmp_path, name, stub, timeout_sec=60.0)  # how patient it is makes no other table
    run_captions(study, name)
    assert outcomes(study) == {(None, None): IMAGES}
    assert len(stub.calls) == IMAGES
