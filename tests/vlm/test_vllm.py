"""vLLM's engine: what it is asked and how its answers are read. The engine itself answers in test_protocol.py."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from seewhy import vlm
from seewhy.failure import Fatal
from seewhy.steps.caption import backend_arguments
from seewhy.study import check_study
from seewhy.vlm.base import DEFAULT_PROMPT, Decoding, Request
from seewhy.vlm.vllm import Settings, VllmBackend, conversation, identity, read_output, sampling
from tests.vlm.models import WITHOUT_ENGINE, picture

IMAGES = [Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")]


def asked(prompt: str, **options: Any) -> list[dict[str, Any]]:
    return conversation(Request("a", (), prompt), IMAGES, Settings(model="m", **options))


def test_the_instruction_comes_before_the_images_so_that_rows_share_it():
    shown = [{"type": "image_pil", "image_pil": image} for image in IMAGES]
    told = {"type": "text", "text": "what"}
    assert asked("what") == [{"role": "user", "content": [told, *shown]}]
    assert asked("what", prompt_first=False) == [{"role": "user", "content": [*shown, told]}]
    assert asked("") == [{"role": "user", "content": shown}]
    assert asked("what", system_prompt="be plain")[0] == {"role": "system", "content": "be plain"}


def test_a_models_template_writes_the_instruction_where_it_is_put(model_folder):
    """A template such as those of today's models writes the parts of a turn in their order."""
    processor = AutoProcessor.from_pretrained(model_folder("llava"))

    def written(**options: Any) -> str:
        (turn,) = asked("what is this", **options)
        parts = [{"type": "image"} if part["type"] == "image_pil" else part for part in turn["content"]]
        return processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)

    assert written().split()[:5] == ["<s>", "what", "is", "this", "<image>"]
    assert written(prompt_first=False).split()[:4] == ["<s>", "<image>", "<image>", "what"]


def test_every_row_draws_from_a_seed_of_its_own():
    decoding = Decoding(0.7, 0.9, 50, 3)
    rows = [Request("a", (), "what"), Request("b", (), "what"), Request("a", (), "who")]
    told = [sampling(row, decoding) for row in rows]
    assert [(one["temperature"], one["top_p"], one["max_tokens"]) for one in told] == [(0.7, 0.9, 50)] * 3
    seeds = [one["seed"] for one in told]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sampling(Request("a", (b"x",), "what"), decoding)["seed"] == seeds[0]
    assert sampling(rows[0], Decoding(0.7, 0.9, 50, 4))["seed"] != seeds[0]
    assert sampling(rows[0], Decoding(0.0, 0.9, 50, 3)) == {"temperature": 0.0, "max_tokens": 50}


@dataclass
class CompletionOutput:
    """The fields of vLLM's own that are read."""

    text: str
    token_ids: list[int]
    finish_reason: str | None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]
    prompt_token_ids: list[int] | None = field(default_factory=lambda: [0] * 20)


@pytest.mark.parametrize(
    ("finish", "text", "kind", "reason"),
    [
        ("stop", " \n", "rejected", "empty_answer"),
        ("length", " ", "rejected", "cut_before_text"),
        ("repetition", "a a a", "rejected", "answer_stopped_repetition"),
        ("abort", "half", "transient", "answer_abort"),
        ("error", "", "transient", "answer_error"),
        (None, "half", "transient", "answer_None"),
    ],
)
def test_an_answer_without_a_text_says_why_and_what_it_cost(finish, text, kind, reason):
    answer = read_output(RequestOutput([CompletionOutput(text, [1, 2, 3], finish)]))
    assert (answer.failure.kind, answer.failure.reason, answer.finish_reason) == (kind, reason, finish)
    assert (answer.tokens_in, answer.tokens_out) == (20, 3)


def test_a_text_comes_with_its_end_and_its_tokens():
    for finish in ("stop", "length"):
        answer = read_output(RequestOutput([CompletionOutput(" a dog ", [1, 2, 3], finish)]))
        assert (answer.text, answer.finish_reason, answer.tokens_in, answer.tokens_out) == ("a dog", finish, 20, 3)
    nothing = read_output(RequestOutput([], None))
    assert (nothing.failure.kind, nothing.failure.reason, nothing.tokens_in) == ("transient", "no_candidates", None)


def test_its_identity_holds_what_changes_an_answer_and_nothing_else(model_folder):
    model = str(model_folder("llava"))
    plain = identity(model=model, prompt="what")
    for changed in (
        {"prompt": "who"},
        {"temperature": 0.5},
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"system_prompt": "x"},
        {"prompt_first": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"max_images": 1},
        {"max_model_len": 512},
        {"engine": {"quantization": "awq"}},
        {"model": str(model_folder("idefics3"))},
    ):
        assert identity(**{"model": model, "prompt": "what", **changed}) != plain, changed
    for same in ({"gpus": 2}, {"batch_size": 3}, {"gpu_memory_utilization": 0.5}, {"engine": {}}):
        assert identity(model=model, prompt="what", **same) == plain, same
    assert (plain["model"], plain["revision"], len(plain["digest"])) == ("llava", None, 32)
    assert all(isinstance(value, str | int | float | None) for value in plain.values())
    assert identity(model=model)["prompt"] == DEFAULT_PROMPT
    assert vlm.identity("vllm", "what", model=model) == {"backend": "vllm", **plain}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gpus": 0}, "gpus is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization 1.5"),
        ({"dtype": "int8"}, "'int8' is not one of auto"),
        ({"engine": {"tensor_parallel_size": 2, "seed": 1}}, "engine sets tensor_parallel_size,"),
        ({"temperature": -1}, "temperature -1"),
        ({"device": "cuda"}, "there is no option device"),
    ],
)
def test_options_that_are_none_are_refused(wrong, says):
    with pytest.raises(Fatal, match=says):
        vlm.identity("vllm", "what", model="m", **wrong)


def test_a_study_reaches_it():
    manifest = {"path": "ads.csv", "image": "ad", "target": "clicks"}
    study = {"title": "Ads", "workspace": "out", "manifest": manifest, "caption": {"backend": "vllm"}}
    with pytest.raises(Fatal, match="backend vllm needs `model`"):
        check_study(study)
    study["caption"] |= {"model": "m", "revision": "r", "batch_size": 8, "options": {"gpus": 2}}
    assert backend_arguments(check_study(study).caption) == {
        "backend": "vllm",
        "model": "m",
        "revision": "r",
        "trust_remote_code": False,
        "dtype": "auto",
        "batch_size": 8,
        "seed": 0,
        "gpus": 2,
    }


@pytest.mark.skipif(WITHOUT_ENGINE != "vllm is not installed", reason="vllm is installed")
def test_a_missing_extra_is_named(model_folder):
    with pytest.raises(Fatal, match=r"seewhy\[vllm\]"):
        vlm.load("vllm", model=str(model_folder("llava")))


@pytest.mark.gpu
@pytest.mark.skipif(WITHOUT_ENGINE is not None, reason=str(WITHOUT_ENGINE))
def test_what_the_engine_refuses_fails_alone(model_folder):
    backend = VllmBackend(
        model=str(model_folder("wide_llava")),
        dtype="float32",
        temperature=0.0,
        max_new_tokens=8,
        max_model_len=64,
        gpu_memory_utilization=0.3,
        engine={"enforce_eager": True},
    )
    good = [Request(f"id-{i}", (picture(i),), "what is this") for i in range(5)]
    long = Request("long", (picture(9),), "dog " * 100)
    answers = backend.generate([*good[:3], long, *good[3:]])
    assert (answers[3].failure.kind, answers[3].tokens_in) == ("bad_input", None)
    assert answers[3].failure.reason in ("prompt_too_long", "refused_by_engine")
    assert answers[:3] + answers[4:] == backend.generate(good)
