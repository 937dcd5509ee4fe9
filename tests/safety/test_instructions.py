"""What stands in one picture, or in the answer about it, reaches no request about another."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import storage
from seewhy.ask import Ask
from seewhy.caption import Caption
from tests.batch.conftest import home as home
from tests.batch.conftest import quick as quick
from tests.batch.conftest import servers as servers
from tests.batch.home import PROMPT, Home
from tests.safety.hostile_service import hostile_stub, images_of, mark_of
from tests.vlm.batch_stub import BatchStub, noise
from tests.vlm.gemini_stub import Stub
from tests.vlm.openai_stub import prompt_of

COUNT = 12
IMAGES = [noise(i) for i in range(COUNT)]
MARK = re.compile(r"mark[0-9a-f]{12}")
BATCH = pa.table({"id": [f"{i}" for i in range(COUNT)], "image": IMAGES})


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = hostile_stub()
    yield server
    server.close()


def options(stub: Stub) -> dict[str, Any]:
    return {"backend": "openai", "model": "m", "base_url": f"{stub.url}/v1", "concurrency": 3}


def test_a_request_for_a_caption_holds_one_image_and_the_prompt_of_the_study(stub: Stub) -> None:
    rows = Caption(prompt="What is it?", **options(stub))(BATCH).to_pylist()
    assert [row["error_kind"] for row in rows] == [None] * COUNT
    assert sorted(images_of(call.body) for call in stub.calls) == sorted([image] for image in IMAGES)
    for call in stub.calls:
        assert prompt_of(call.body) == "What is it?"
        assert [turn["role"] for turn in call.body["messages"]] == ["user"]
        assert MARK.search(json.dumps(call.body)) is None
    for row, image in zip(rows, IMAGES, strict=True):
        assert set(MARK.findall(row["text"])) == {mark_of(image)}


@pytest.mark.parametrize("chat", [False, True])
def test_a_conversation_is_of_one_image_alone(stub: Stub, chat: bool) -> None:
    questions = [("sky", "What is in the sky?"), ("who", "Who is there?"), ("why", "Why?")]
    table = Ask(questions=questions, prompts=[("free", "Describe.")], chat=chat, **options(stub))(BATCH)
    assert len(stub.calls) == 4 * COUNT
    carried = 0
    for call in stub.calls:
        (image,) = images_of(call.body)
        found = set(MARK.findall(json.dumps(call.body)))
        assert found <= ({mark_of(image)} if chat else set())
        carried += bool(found)
        asked = [question for _, question in questions if question in prompt_of(call.body)]
        assert len(asked) == 1 or chat or prompt_of(call.body) == "Describe."
    assert carried == (2 * COUNT if chat else 0)  # the second question and the third
    for row, image in zip(table.to_pylist(), IMAGES, strict=True):
        for column in ("free", "sky", "who", "why"):
            assert set(MARK.findall(row[column])) == {mark_of(image)}


def test_a_line_of_a_batch_file_holds_one_image_and_the_prompt(
    home: Home, servers: tuple[Stub, BatchStub], tmp_path: Path
) -> None:
    home.ask()
    lines = [
        json.loads(line)
        for job in servers[1].jobs.values()
        for line in storage.read_whole(job["inputConfig"]["gcsSource"]["uris"][0]).splitlines()
    ]
    assert len(lines) == len(home.images)
    sent = []
    for line in lines:
        (turn,) = line["request"]["contents"]
        texts = [part["text"] for part in turn["parts"] if "text" in part]
        pictures = [part for part in turn["parts"] if "text" not in part]
        assert (texts, len(pictures)) == ([PROMPT], 1)
        (inline,) = pictures[0].values()
        sent.append(base64.b64decode(inline["data"]))
    assert sorted(sent) == sorted(home.images.values())
    assert home.texts() == home.right()
