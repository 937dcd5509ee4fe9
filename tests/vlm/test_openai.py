"""What is an OpenAI-compatible server's own; what it shares with other services is in test_services.py."""

import json
import logging

import pytest

from seewhy.failure import Fatal
from seewhy.vlm.base import DEFAULT_PROMPT, Request
from seewhy.vlm.openai import OpenAIBackend, identity
from tests.vlm.models import picture
from tests.vlm.openai_stub import KEY
from tests.vlm.services import ask


@pytest.fixture
def name() -> str:
    return "openai"


def test_the_key_goes_to_the_server_and_nowhere_else(stub, made, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", KEY)
    backend = made(api_key_env="SOME_KEY")
    backend.generate([ask("what")])
    assert stub.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(identity(model="m", base_url=stub.url, api_key_env="SOME_KEY"))
    stub.plan = {"what": ["401"]}  # a server that repeats the key
    with pytest.raises(Fatal, match="SOME_KEY") as caught:
        backend.generate([ask("what")])
    assert "provided: ***" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text
    made().generate([ask("open")])
    assert "Authorization" not in stub.asked("open")[0].headers
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(Fatal, match="SOME_KEY"):
        made(api_key_env="SOME_KEY")


def test_what_is_asked_is_what_the_study_says(stub, made):
    made(
        temperature=0.5,
        top_p=0.9,
        max_new_tokens=77,
        seed=5,
        system_prompt="be plain",
        detail="low",
        limit="max_completion_tokens",
        body={"chat_template_kwargs": {"enable_thinking": False}},
    ).generate([Request("a", (picture(0, 40, 48), picture(1, 40, 48)), "what")])
    made(temperature=0).generate([ask("greedy")])
    body = stub.calls[0].body
    system, user = body.pop("messages")
    assert body == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 77,
        "seed": 5,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert system == {"role": "system", "content": "be plain"}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][0]["image_url"]["detail"] == "low"
    assert user["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    greedy = stub.calls[1].body
    assert {name: greedy[name] for name in greedy if name != "messages"} == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 1000,
    }
    assert len(greedy["messages"]) == 1


def test_a_revision_stands_for_the_model_wherever_it_is_served():
    given = {"model": "m", "base_url": "http://h:1/v1"}
    vouched = {**given, "revision": "sha"}
    assert identity(**{**vouched, "base_url": "http://other/v1"}) == identity(**vouched)
    assert identity(**{**given, "base_url": "http://other/v1"}) != identity(**given)
    assert identity(**given)["prompt"] == DEFAULT_PROMPT


def test_settings_that_are_none_are_refused():
    for wrong, says in (
        ({"limit": "most"}, "most"),
        ({"body": {"model": "x"}}, "model"),
        ({"body": {"temperature": 1}}, "temperature"),
        ({"body": {"max_tokens": 1}, "limit": "max_completion_tokens"}, "max_tokens"),
        ({"base_url": "h:1/v1"}, "no http"),
        ({"base_url": "http://u:hush@h/v1"}, "api_key_env"),
        ({"base_url": "http://h/v1?key=hush"}, "api_key_env"),
    ):
        for made in (identity, OpenAIBackend):
            with pytest.raises(ValueError, match=says) as caught:
                made(**{"model": "m", "base_url": "http://h/v1", **wrong})
            assert "hush" not in str(caught.value)
