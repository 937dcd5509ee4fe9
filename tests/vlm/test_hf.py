"""HfBackend over random models: the continuation comes back, whatever the batch, and faults stay in their row."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, Blip2ForConditionalGeneration, Idefics3ForConditionalGeneration
from transformers.utils import logging

from seewhy.failure import Fatal
from seewhy.images import decode
from seewhy.vlm.base import DEFAULT_PROMPT, Request
from seewhy.vlm.hf import HfBackend, identity, tiny, tiny_identity
from tests.vlm.models import CHAT_TEMPLATE, MAKERS, SPECIAL, picture

GREEDY = {"temperature": 0.0, "max_new_tokens": 8}
END = SPECIAL.index("</s>")
PROMPTS = ["", "what is this", "the sky", "question is this a dog or a man answer", "say two more", "the"]


def asked(prompts: list[str], shape: tuple[int, int] = (40, 48)) -> list[Request]:
    return [Request(f"id-{i}", (picture(i, *shape),), prompt) for i, prompt in enumerate(prompts)]


def greedy_by_hand(forward, ids: list[int], steps: int) -> list[int]:
    """Greedy decoding as it is defined: the whole sequence through the model for every token, no cache, no padding."""
    written: list[int] = []
    while len(written) < steps and END not in written:
        written.append(int(forward(torch.tensor([ids + written])).logits[0, -1].argmax()))
    return written


@torch.inference_mode()
@pytest.mark.parametrize("prompt", PROMPTS[1:3])
def test_an_opt_blip2_continues_the_prompt(model_folder, prompt):
    folder = str(model_folder("blip2_opt"))
    (request,) = asked([prompt])
    (answer,) = HfBackend(model=folder, **GREEDY).generate([request])
    processor, network = AutoProcessor.from_pretrained(folder), Blip2ForConditionalGeneration.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(decode(request.images[0])), text=prompt, return_tensors="pt")
    pixels, ids = inputs["pixel_values"], inputs["input_ids"][0].tolist()
    written = greedy_by_hand(lambda x: network(pixel_values=pixels, input_ids=x), ids, 8)
    assert answer.text == processor.tokenizer.decode(written, skip_special_tokens=True)
    # 4 image tokens, the start token, a token a word
    assert (answer.tokens_in, answer.tokens_out) == (4 + 1 + len(prompt.split()), len(written))


@torch.inference_mode()
def test_a_t5_blip2_answers_the_prompt(model_folder):
    folder = str(model_folder("blip2_t5"))
    (request,) = asked(["what is this"])
    (answer,) = HfBackend(model=folder, **GREEDY).generate([request])
    processor, network = AutoProcessor.from_pretrained(folder), Blip2ForConditionalGeneration.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(decode(request.images[0])), text=request.prompt, return_tensors="pt")
    written = greedy_by_hand(lambda x: network(**inputs, decoder_input_ids=x), [0], 8)
    assert answer.text == processor.tokenizer.decode(written, skip_special_tokens=True)
    assert (answer.tokens_in, answer.tokens_out) == (4 + 3, len(written))


@torch.inference_mode()
def test_a_chat_model_sees_image_then_prompt_through_its_template(model_folder):
    folder = str(model_folder("idefics3"))
    (request,) = asked(["what is this"], (60, 40))
    (answer,) = HfBackend(model=folder, **GREEDY).generate([request])
    processor, network = AutoProcessor.from_pretrained(folder), Idefics3ForConditionalGeneration.from_pretrained(folder)
    text = "<s> <image>  what is this <end_of_utterance> answer "
    inputs = processor(text=text, images=[[Image.fromarray(decode(request.images[0]))]], return_tensors="pt")
    ids = inputs.pop("input_ids")[0].tolist()
    inputs.pop("attention_mask")
    written = greedy_by_hand(lambda x: network(**inputs, input_ids=x), ids, 8)
    assert answer.text == processor.tokenizer.decode(written, skip_special_tokens=True)
    assert (answer.tokens_in, answer.tokens_out) == (len(ids), len(written))


def test_the_start_token_is_not_written_twice(model_folder):
    """LLaVA's tokenizer and its template both begin with <s>: 16 image tokens, <s>, three words, two more."""
    (answer,) = HfBackend(model=str(model_folder("llava")), **GREEDY).generate(asked(["what is this"]))
    assert answer.tokens_in == 16 + 1 + 3 + 2


def test_without_a_prompt_blip2_captions_as_it_does_by_itself(model_folder):
    folder = str(model_folder("blip2_opt"))
    (request,) = asked([""])
    (answer,) = HfBackend(model=folder, **GREEDY).generate([request])
    processor, network = AutoProcessor.from_pretrained(folder), Blip2ForConditionalGeneration.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(decode(request.images[0])), return_tensors="pt")
    whole = network.generate(**inputs, max_new_tokens=8, do_sample=False)[0].tolist()
    assert answer.text == processor.tokenizer.decode(whole[-8:], skip_special_tokens=True)
    assert answer.tokens_in == 4 + 1


@pytest.mark.parametrize("name", MAKERS)
def test_prompts_and_images_of_all_lengths_in_one_batch_answer_as_they_do_alone(model_folder, name):
    requests = [
        Request(f"id-{i}", (picture(i, *shape),), prompt)
        for i, (shape, prompt) in enumerate(zip([(20, 64), (64, 20), (64, 64)] * 4, PROMPTS * 2, strict=True))
    ]
    backend = HfBackend(model=str(model_folder(name)), batch_size=12, **GREEDY)
    together = backend.generate(requests)
    assert together == [backend.generate([request])[0] for request in requests]
    assert together == HfBackend(model=str(model_folder(name)), batch_size=5, **GREEDY).generate(requests)
    assert len({answer.tokens_in for answer in together}) > 3, "nothing was padded"


def test_prompts_of_like_length_share_a_batch(model_folder, monkeypatch):
    backend = HfBackend(model=str(model_folder("blip2_opt")), batch_size=2, **GREEDY)
    generate, shapes = backend._network.generate, []

    def recorded(**inputs):
        shapes.append((tuple(inputs["attention_mask"].shape), int(inputs["attention_mask"].sum())))
        return generate(**inputs)

    monkeypatch.setattr(backend._network, "generate", recorded)
    backend.generate(asked(["the", "is this a dog or a man", "sky", "is that a sea or a sky"]))
    assert shapes == [((2, 6), 12), ((2, 12), 24)], "rows were padded"


@pytest.mark.parametrize("name", ["blip2_t5", "llava"])
def test_sampling_depends_on_seed_id_and_prompt_and_on_nothing_else(model_folder, name):
    def backend(seed: int) -> HfBackend:
        options = {"temperature": 1.5, "top_p": 0.9, "max_new_tokens": 8, "seed": seed, "batch_size": 4}
        return HfBackend(model=str(model_folder(name)), **options)

    image = (picture(0),)
    requests = [Request(f"id-{i}", image, "what is this") for i in range(6)]
    first = backend(0)
    together = first.generate(requests)
    assert len({answer.text for answer in together}) == 6
    assert first.generate(requests[::-1])[::-1] == together
    assert [first.generate([request])[0] for request in requests] == together
    assert backend(0).generate(requests) == together
    assert [a.text for a in backend(1).generate(requests)] != [a.text for a in together]
    assert first.generate([Request("id-0", image, "what is the")])[0].text != together[0].text


def test_no_global_state_is_left_changed(model_folder):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    backend = HfBackend(model=str(model_folder("blip2_opt")), temperature=1.0, max_new_tokens=4)
    backend.generate(asked(["the", "a"]))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert logging.get_verbosity() == logging.INFO
    assert logging.is_progress_bar_enabled()
    logging.set_verbosity_warning()


def test_the_models_own_sampling_settings_do_not_leak_in(model_folder, tmp_path):
    """A model whose files ask for hot sampling and beams still decodes as it was told to."""
    folder = shutil.copytree(model_folder("llava"), tmp_path / "llava")
    hot = {"do_sample": True, "temperature": 9.0, "num_beams": 3, "top_k": 3, "max_length": 4, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(hot))
    requests = asked(PROMPTS[:3])
    plain = HfBackend(model=str(model_folder("llava")), **GREEDY).generate(requests)
    assert HfBackend(model=str(folder), **GREEDY).generate(requests) == plain


def edited(folder, target, change):
    """A copy of a model's folder with its configuration changed."""
    copy = shutil.copytree(folder, target)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def test_a_text_ends_at_the_stop_token_and_says_so(model_folder, tmp_path):
    folder = model_folder("blip2_opt")
    requests = asked(["", "", "", ""])
    words = [answer.text.split() for answer in HfBackend(model=str(folder), **GREEDY).generate(requests)]
    stop = words[0][2]
    assert stop not in words[0][:2]
    stop_id = AutoProcessor.from_pretrained(folder).tokenizer.convert_tokens_to_ids(stop)
    stopping = edited(folder, tmp_path / "m", lambda config: config["text_config"].update(eos_token_id=stop_id))
    answers = HfBackend(model=stopping, **GREEDY).generate(requests)
    # The stop token is an ordinary word here, so it stays in the text; what follows it does not.
    assert (answers[0].text.split(), answers[0].finish_reason, answers[0].tokens_out) == (words[0][:3], "stop", 3)
    for answer, full in zip(answers, words, strict=True):
        kept = full[: full.index(stop) + 1] if stop in full else full
        assert answer.text.split() == kept
        assert answer.finish_reason == ("stop" if stop in full else "length")


def test_a_model_that_names_no_stop_token_ends_at_its_tokenizers(model_folder, tmp_path):
    nameless = edited(
        model_folder("blip2_opt"), tmp_path / "m", lambda config: config["text_config"].update(eos_token_id=None)
    )
    requests = asked(["the sky"] * 3)
    answers = HfBackend(model=nameless, **GREEDY).generate(requests)
    assert "stop" in {answer.finish_reason for answer in answers}
    assert answers == HfBackend(model=str(model_folder("blip2_opt")), **GREEDY).generate(requests)


def test_special_tokens_alone_are_an_empty_answer(model_folder, tmp_path):
    """With a head of zeros every token is as likely, so greedy decoding writes token 0, <pad>, to the end."""
    folder = shutil.copytree(model_folder("llava"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["language_model.lm_head.weight"][:] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (answer,) = HfBackend(model=str(folder), **GREEDY).generate(asked(["the"]))
    assert (answer.failure.kind, answer.failure.reason) == ("rejected", "empty_answer")
    assert (answer.finish_reason, answer.tokens_out) == ("length", 8)


def test_writing_stops_at_the_models_context(model_folder):
    """40 positions: 4 for the image, 1 start token, 3 words; 32 are left. 36 words leave no room at all."""
    backend = HfBackend(model=str(model_folder("blip2_opt")), temperature=0.0, max_new_tokens=500)
    first, full, other = backend.generate(asked(["what is this", "dog " * 36, "the"]))
    assert (full.failure.kind, full.failure.reason) == ("bad_input", "prompt_too_long")
    assert first.failure is other.failure is None
    answers = backend.generate(asked(["what is this"] * 12))
    assert max(answer.tokens_out for answer in answers) == 32


def test_blip2_takes_one_image_and_a_chat_model_several(model_folder):
    two = Request("two", (picture(0), picture(1)), "what is this")
    (answer,) = HfBackend(model=str(model_folder("blip2_opt")), **GREEDY).generate([two])
    assert (answer.failure.kind, answer.failure.reason) == ("bad_input", "too_many_images")
    backend = HfBackend(model=str(model_folder("llava")), **GREEDY)
    requests = [two, Request("swapped", two.images[::-1], two.prompt), Request("one", two.images[:1], two.prompt)]
    answers = backend.generate(requests)
    assert [answer.tokens_in for answer in answers] == [16 * 2 + 6, 16 * 2 + 6, 16 + 6]
    assert len({answer.text for answer in answers}) == 3
    assert answers == [backend.generate([request])[0] for request in requests]


class Narrow:
    """Stands before a network's generate and runs out of memory on more rows than fit, or on one kind of image."""

    def __init__(self, backend: HfBackend, fits: int, poison: float | None = None) -> None:
        self.generate, self.fits, self.poison, self.rows = backend._network.generate, fits, poison, []

    def __call__(self, **inputs):
        pixels = inputs["pixel_values"]
        self.rows.append(len(pixels))
        if len(pixels) > self.fits or any(float(p.mean()) == self.poison for p in pixels):
            raise torch.OutOfMemoryError("no room")
        return self.generate(**inputs)


def test_out_of_memory_halves_the_batch_and_loses_no_row(model_folder, monkeypatch):
    backend = HfBackend(model=str(model_folder("blip2_opt")), batch_size=8, **GREEDY)
    requests = asked(["the"] * 14)
    roomy = backend.generate(requests)
    narrow = Narrow(backend, fits=3)
    monkeypatch.setattr(backend._network, "generate", narrow)
    assert backend.generate(requests) == roomy
    # 8 do not fit, nor do 4, twice; the next batch starts from 2, grows by one row, and 4 do not fit again
    assert narrow.rows == [8, 4, 2, 2, 4, 2, 2, 3, 3]


def test_a_row_that_never_fits_fails_alone_and_for_now(model_folder, monkeypatch):
    backend = HfBackend(model=str(model_folder("blip2_opt")), batch_size=8, **GREEDY)
    requests = asked(["the"] * 6)
    roomy = backend.generate(requests)
    inputs = backend._encode([(0, requests[4], backend._open(requests[4]))])
    monkeypatch.setattr(backend._network, "generate", Narrow(backend, 8, poison=float(inputs["pixel_values"].mean())))
    answers = backend.generate(requests)
    assert (answers[4].failure.kind, answers[4].failure.reason) == ("transient", "out_of_memory")
    assert answers[:4] + answers[5:] == roomy[:4] + roomy[5:]


def test_an_image_that_the_processor_refuses_fails_alone(model_folder, monkeypatch):
    backend = HfBackend(model=str(model_folder("blip2_opt")), **GREEDY)
    requests = [*asked(["the"] * 4), Request("thin", (picture(9, 300, 2),), "the")]
    process = backend._processor.image_processor

    def picky(images, **kwargs):
        if any(image.width > 200 * image.height or image.height < 4 for image in images):
            raise ValueError("aspect ratio")
        return process(images, **kwargs)

    plain = backend.generate(requests[:4])
    monkeypatch.setattr(backend._processor, "image_processor", picky)
    answers = backend.generate(requests)
    assert answers[:4] == plain
    assert (answers[4].failure.kind, answers[4].failure.reason) == ("bad_input", "refused_by_processor")


def test_the_network_is_left_in_evaluation_mode_with_its_weights(model_folder):
    backend = HfBackend(model=str(model_folder("blip2_opt")), **GREEDY)
    before = {name: weights.clone() for name, weights in backend._network.state_dict().items()}
    backend.generate(asked(["the"]))
    assert not backend._network.training
    assert all(torch.equal(weights, before[name]) for name, weights in backend._network.state_dict().items())


def test_half_precision_runs_where_it_is_asked_for(model_folder):
    backend = HfBackend(model=str(model_folder("llava")), dtype="bfloat16", **GREEDY)
    assert {weights.dtype for weights in backend._network.parameters()} == {torch.bfloat16}
    assert backend.generate(asked(["the"]))[0].failure is None
    auto = HfBackend(model=str(model_folder("llava")), device="cpu", **GREEDY)
    assert {weights.dtype for weights in auto._network.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match=r"'int8' is not one of auto, float32"):
        HfBackend(model=str(model_folder("llava")), dtype="int8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", MAKERS)
def test_a_gpu_answers_in_half_precision_by_itself_and_as_a_cpu_in_full(model_folder, name):
    backend = HfBackend(model=str(model_folder(name)), batch_size=4, **GREEDY)
    weights = next(backend._network.language_model.parameters() if "blip2" in name else backend._network.parameters())
    assert (weights.device.type, weights.dtype in (torch.bfloat16, torch.float16)) == ("cuda", True)
    requests = asked(PROMPTS[1:])
    assert all(answer.failure is None for answer in backend.generate(requests))
    full = {"dtype": "float32", **GREEDY}
    on_gpu, on_cpu = (HfBackend(model=str(model_folder(name)), device=where, **full) for where in ("cuda", "cpu"))
    assert on_gpu.generate(requests) == on_cpu.generate(requests)


def test_a_model_without_a_chat_template_is_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llava"), tmp_path / "m")
    assert (folder / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(Fatal, match="has no chat template"):
        HfBackend(model=str(folder))


def test_a_template_that_drops_the_image_is_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("idefics3"), tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][-1]['text'] }}")
    with pytest.raises(Fatal, match="does not take one image and a prompt"):
        HfBackend(model=str(folder))


def test_an_old_blip2_without_an_image_token_is_refused(model_folder, tmp_path):
    old = edited(model_folder("blip2_opt"), tmp_path / "m", lambda config: config.pop("image_token_index"))
    with pytest.raises(Fatal, match="names no image token"):
        HfBackend(model=old)


def test_its_identity_holds_what_changes_a_result_and_nothing_else(model_folder):
    model = str(model_folder("blip2_opt"))
    plain = identity(model=model, temperature=0.0)
    assert identity(model=model, temperature=0.0, batch_size=3, device="cpu", seed=9, top_p=0.5) == plain
    changes = [{"temperature": 0.5}, {"max_new_tokens": 5}, {"dtype": "bfloat16"}, {"prompt": "the"}]
    for change in changes:
        assert identity(model=model, **{"temperature": 0.0} | change) != plain
    assert identity(model=model, seed=1) != identity(model=model)
    assert identity(model=str(model_folder("blip2_t5")), temperature=0.0) != plain


def test_the_packaged_model_is_greedy_unless_told_otherwise():
    assert tiny_identity()["temperature"] == 0.0
    assert (tiny_identity(temperature=0.5)["temperature"], tiny_identity(prompt="the")["prompt"]) == (0.5, "the")
    image = (picture(0),)
    requests = [Request(f"id-{i}", image, "") for i in range(4)]
    assert len({answer.text for answer in tiny().generate(requests)}) == 1
    assert len({answer.text for answer in tiny(temperature=2.0).generate(requests)}) == 4


def test_a_blip2_captions_without_a_prompt_and_a_chat_model_is_asked(model_folder):
    assert HfBackend(model=str(model_folder("blip2_opt"))).default_prompt == ""
    assert HfBackend(model=str(model_folder("llava"))).default_prompt == DEFAULT_PROMPT
