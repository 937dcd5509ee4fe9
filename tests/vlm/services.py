"""The backends that ask a service, each beside the stub that plays its service: what the tests of both are told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.oauth2.credentials import Credentials

from seewhy.vlm.base import Request
from tests.vlm.gemini_stub import Stub, gemini_stub
from tests.vlm.models import picture
from tests.vlm.openai_stub import openai_stub


@dataclass(frozen=True)
class Service:
    """Faults are those of the stub, by name.

    Attributes:
        start: starts the stub.
        options: those of a backend that asks the stub at this address.
        refusal: a fault that rejects one row, and the reason that the row gets.
        stands: fault -> kind, reason, finish reason, tokens read and written, of what is asked once.
        passes: fault -> reason and tokens read by a try, of what is tried again.
        stops: fault -> what the message of the Fatal says.
        texts: fault -> text, finish reason, tokens read and written.
        waits: fault -> seconds that the service asks to be left alone.
        named: options of an identity that needs no stub.
        changes: options of which each makes another identity of it.
        keeps: options of which none does.
        digests: of the identities of `named` with prompt "what" and of the same with these options. Tables that stand
            are called by them.
    """

    start: Callable[[], Stub]
    options: Callable[[str], dict[str, Any]]
    refusal: tuple[str, str]
    stands: dict[str, tuple[str, str, str | None, int | None, int | None]]
    passes: dict[str, tuple[str, int | None]]
    stops: dict[str, str]
    texts: dict[str, tuple[str, str, int | None, int | None]]
    waits: dict[str, float]
    named: dict[str, Any]
    changes: list[dict[str, Any]]
    keeps: list[dict[str, Any]]
    digests: list[tuple[dict[str, Any], str]]


SERVICES = {
    "gemini": Service(
        start=gemini_stub,
        options=lambda url: {
            "model": "gemini-stub",
            "project": "p",
            "location": "here",
            "base_url": url,
            "credentials": Credentials(token="fake"),
        },
        refusal=("safety", "answer_blocked_safety"),
        stands={
            "prompt_safety": ("rejected", "prompt_blocked_safety", "prompt_safety", 262, 0),
            "prompt_prohibited": (
                "rejected",
                "prompt_blocked_prohibited_content",
                "prompt_prohibited_content",
                262,
                0,
            ),
            "safety": ("rejected", "answer_blocked_safety", "safety", 262, 5),
            "safety_with_text": ("rejected", "answer_blocked_safety", "safety", 262, 0),
            "recitation": ("rejected", "answer_blocked_recitation", "recitation", 262, 9),
            "other": ("rejected", "answer_stopped_other", "other", 262, 0),
            "new_reason": ("rejected", "answer_stopped_moon_phase", "moon_phase", 262, 0),
            "max_tokens_thoughts": ("rejected", "cut_before_text", "length", 262, 1000),
            "blank": ("rejected", "empty_answer", "stop", 262, 0),
            "no_parts": ("rejected", "empty_answer", "stop", 262, 0),
            "400": ("bad_input", "http_400", None, None, None),
            "413": ("bad_input", "http_413", None, None, None),
        },
        passes={
            "limited": ("http_429", None),
            "limited_odd": ("http_429", None),
            "500": ("http_500", None),
            "503": ("http_503", None),
            "502_page": ("http_502", None),
            "499": ("http_499", None),
            "503_not_json": ("malformed_answer", None),
            "drop": ("disconnected", None),
            "half": ("incomplete_body", None),
            "page": ("malformed_answer", None),
            "not_json": ("malformed_answer", None),
            "nothing": ("malformed_answer", None),
            "list": ("malformed_answer", None),
            "number": ("malformed_answer", None),
            "odd_types": ("malformed_answer", 262),
            "odd_parts": ("malformed_answer", None),
            "no_candidates": ("no_candidates", 262),
            "unfinished": ("unfinished", 262),
        },
        stops={
            "401": "Log in again",
            "403": "roles/aiplatform.user",
            "404": "gemini-stub",
            "400_project": "Billing",
        },
        texts={
            "thoughts": ("a dog", "stop", 262, 42),
            "max_tokens_text": ("a cut te", "length", 262, 3),
            "no_usage": ("a dog", "stop", None, None),
        },
        waits={"limited_info": 0.4, "limited_header": 1.0, "limited_both": 1.0},
        named={"model": "m"},
        changes=[
            {"model": "n"},
            {"location": "us-central1"},
            {"safety": "OFF"},
            {"system_prompt": "x"},
            {"media_resolution": "low"},
            {"thinking_budget": 0},
        ],
        keeps=[{"project": "p"}, {"base_url": "http://x"}, {"credentials": 1}],
        digests=[
            ({}, "34258e689056f553146a62bee57619c9"),
            (
                {
                    "location": "us-central1",
                    "temperature": 0.5,
                    "top_p": 0.9,
                    "max_new_tokens": 77,
                    "seed": 5,
                    "system_prompt": "be plain",
                    "safety": {"HARASSMENT": "BLOCK_NONE"},
                    "media_resolution": "low",
                    "thinking_budget": 0,
                },
                "13145c679940c723f127a657cdde76a9",
            ),
        ],
    ),
    "openai": Service(
        start=openai_stub,
        options=lambda url: {"model": "m", "base_url": f"{url}/v1"},
        refusal=("refusal", "answer_refused"),
        stands={
            "filtered_prompt": ("rejected", "prompt_blocked_content_filter", None, None, None),
            "filtered_answer": ("rejected", "answer_blocked_content_filter", "content_filter", 262, 2),
            "refusal": ("rejected", "answer_refused", "stop", 262, 6),
            "tool": ("rejected", "answer_stopped_tool_calls", "tool_calls", 262, 0),
            "cut_before_text": ("rejected", "cut_before_text", "length", 262, 1000),
            "blank": ("rejected", "empty_answer", "stop", 262, 1),
            "400": ("bad_input", "http_400", None, None, None),
            "422": ("bad_input", "http_422", None, None, None),
        },
        passes={
            "limited": ("http_429", None),
            "429_in_200": ("http_429", None),
            "500": ("http_500", None),
            "503_text": ("http_503", None),
            "503_in_200": ("http_503", None),
            "drop": ("disconnected", None),
            "half": ("incomplete_body", None),
            "page": ("malformed_answer", None),
            "not_json": ("malformed_answer", None),
            "not_text": ("malformed_answer", None),
            "nothing": ("malformed_answer", None),
            "list": ("malformed_answer", None),
            "no_message": ("malformed_answer", 262),
            "odd_content": ("malformed_answer", 262),
            "no_choices": ("no_candidates", 262),
            "unfinished": ("unfinished", 262),
        },
        stops={
            "401": "refuses the API key",
            "403": "refuses the API key",
            "404": "no model 'm'",
            "402": "no credit",
            "no_credit": "no credit",
            "redirect": "base_url",
        },
        texts={
            "parts": ("a dog", "stop", 262, 2),
            "tgi": ("a dog", "stop", 262, 2),
            "cut": ("a cut te", "length", 262, 3),
            "thoughts": ("a dog", "stop", 262, 42),  # counted in the total alone
            "no_usage": ("a dog", "stop", None, None),
        },
        waits={"limited_header": 1.0},
        named={"model": "m", "base_url": "http://h:1/v1"},
        changes=[
            {"model": "n"},
            {"base_url": "http://other/v1"},
            {"revision": "sha"},
            {"system_prompt": "x"},
            {"detail": "low"},
            {"body": {"min_p": 0.1}},
        ],
        keeps=[{"api_key_env": "X"}, {"base_url": "http://h:1/v1/"}, {"body": {}}],
        digests=[
            ({}, "18d708132a4eba9d218f4064640a66ae"),
            (
                {
                    "temperature": 0,
                    "system_prompt": "be plain",
                    "detail": "low",
                    "limit": "max_completion_tokens",
                    "body": {"b": 1, "a": "é"},
                },
                "e40e02549b88269de4e920155120b0cb",
            ),
        ],
    ),
}


def ask(prompt: str, number: int = 0) -> Request:
    return Request(f"id-{number}", (picture(number, 40, 48),), prompt)
