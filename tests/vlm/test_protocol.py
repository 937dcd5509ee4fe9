"""What every backend must do, run over every backend that is at hand. A new backend joins BACKENDS."""

from collections.abc import Callable, Iterator

import pytest

from seewhy import vlm
from seewhy.failure import KINDS
from seewhy.vlm.base import Request
from tests.vlm.models import WITHOUT_ENGINE, picture
from tests.vlm.services import SERVICES

SMALL = {"temperature": 0.0, "max_new_tokens": 8, "batch_size": 4}
SMALL_ENGINE = {
    "dtype": "float32",
    "max_model_len": 256,
    "gpu_memory_utilization": 0.3,
    "engine": {"enforce_eager": True},
}

# test's name -> (backend, options, the prompt to ask with); "hf-..." gets its model from models.py, a service its stub
BACKENDS = {
    "fake": ("fake", {}, "what is this"),
    "hf-blip2_opt": ("hf", SMALL, "what is this"),
    "hf-blip2_t5": ("hf", SMALL, "what is this"),
    "hf-llava": ("hf", SMALL, "what is this"),
    "hf-idefics3": ("hf", SMALL, "what is this"),
    "tiny": ("tiny", {}, ""),
    "gemini": ("gemini", {}, "what is this"),
    "openai": ("openai", {}, "what is this"),
    "vllm": ("vllm", SMALL | SMALL_ENGINE, "what is this"),
}
MARKS = {
    "vllm": [pytest.mark.gpu, pytest.mark.skipif(WITHOUT_ENGINE is not None, reason=str(WITHOUT_ENGINE))],
}

Options = tuple[str, dict[str, object], str]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS.get(name, [])) for name in BACKENDS])
def options(request, model_folder: Callable) -> Iterator[Options]:
    name, options, prompt = BACKENDS[request.param]
    if name == "hf":
        options = options | {"model": str(model_folder(request.param.removeprefix("hf-")))}
    if name == "vllm":
        options = options | {"model": str(model_folder("wide_llava"))}
    if name not in SERVICES:
        yield name, options, prompt
        return
    stub = SERVICES[name].start()
    yield name, options | SERVICES[name].options(stub.url), prompt
    stub.close()


@pytest.fixture(scope="module")
def backend(options: Options) -> Iterator[vlm.Backend]:
    name, kwargs, _ = options
    backend = vlm.load(name, **kwargs)
    yield backend
    if name in SERVICES:
        backend.close()


@pytest.fixture(scope="module")
def requests(options: Options) -> list[Request]:
    shapes = [(40, 48), (48, 40), (120, 30), (30, 120), (64, 64), (33, 65)]
    return [Request(f"id-{i}", (picture(i, *shape),), options[2]) for i, shape in enumerate(shapes)]


def test_one_answer_a_request_in_order_whatever_stands_beside_it(backend, requests):
    together = backend.generate(requests)
    alone = [backend.generate([request])[0] for request in requests]
    assert together == alone
    assert backend.generate(requests[::-1]) == together[::-1]
    assert len({answer.text for answer in together}) > 1, "the answers do not depend on the image"


def test_no_requests_no_answers(backend):
    assert backend.generate([]) == []


def test_an_answer_says_what_it_cost_and_why_it_ended(backend, requests):
    for answer in backend.generate(requests):
        assert answer.failure is None
        assert answer.text == answer.text.strip() != ""
        assert answer.finish_reason in ("stop", "length")
        assert answer.tokens_in > 0
        assert answer.tokens_out > 0


def test_the_same_request_twice_in_a_batch_gets_the_same_answer(backend, requests):
    first, second, third = backend.generate([requests[0], requests[1], requests[0]])
    assert first == third
    assert first != second


def test_a_default_prompt_is_there_and_is_answered(backend, requests):
    (answer,) = backend.generate([Request("a", requests[0].images, backend.default_prompt)])
    assert answer.failure is None


def test_its_identity_follows_the_prompt_and_is_made_of_plain_values(options):
    name, kwargs, prompt = options
    first = vlm.identity(name, prompt, **kwargs)
    assert first["backend"] == name
    assert first["prompt"] == prompt
    assert vlm.identity(name, prompt, **kwargs) == first
    assert vlm.identity(name, prompt + "?", **kwargs) != first
    assert all(isinstance(value, str | int | float | None) for value in first.values())


def test_no_prompt_means_the_default_prompt_in_the_identity_too(options, backend):
    name, kwargs, _ = options
    assert vlm.identity(name, None, **kwargs)["prompt"] == backend.default_prompt


def test_a_failure_is_a_value_and_leaves_its_neighbours_alone(options, backend, requests):
    if options[0] == "fake":
        pytest.skip("does not open images")
    broken = [Request("cut", (requests[1].images[0][:40],), options[2]), Request("text", (b"words",), options[2])]
    none = Request("none", (), options[2])
    answers = backend.generate([broken[0], *requests[:3], none, *requests[3:], broken[1]])
    bad = [answers[0], answers[4], answers[-1]]
    assert [answer.failure.kind for answer in bad] == ["bad_input"] * 3
    cut = "http_400" if options[0] in SERVICES else "truncated"  # a service is sent whatever begins as an image does
    assert [answer.failure.reason for answer in bad] == [cut, "no_image", "not_an_image"]
    assert answers[1:4] + answers[5:-1] == backend.generate(requests)
    assert all(answer.failure.kind in KINDS for answer in answers if answer.failure)
