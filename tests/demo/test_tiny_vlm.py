"""The packaged tiny BLIP-2, through the same classes as the 2.7B model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Blip2ForConditionalGeneration

import seewhy.demo
from seewhy.demo.captions import mentioned
from seewhy.demo.factors import FACTORS, draw_factors
from seewhy.demo.posters import draw_poster
from seewhy.demo.train_vlm import draw_pool, gate, pixels
from seewhy.vlm.base import DEFAULT_PROMPT

FOLDER = Path(seewhy.demo.__file__).parent / "tiny_vlm"


@pytest.fixture(scope="module")
def model():
    return Blip2ForConditionalGeneration.from_pretrained(FOLDER).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def posters():
    rng = np.random.default_rng(20_261_121)
    drawn = [draw_factors(rng) for _ in range(100)]
    return drawn, [draw_poster(factors, rng) for factors in drawn]


def captions(model, processor, images, text=None):
    inputs = processor(images=images, text=text, return_tensors="pt", padding=True)
    ids = model.generate(**inputs, max_new_tokens=96, do_sample=False)
    texts = processor.batch_decode(ids, skip_special_tokens=True)
    prompts = [""] * len(images) if text is None else text
    return [found.removeprefix(prompt).strip() for found, prompt in zip(texts, prompts, strict=True)]


def shares(drawn, texts):
    found = [mentioned(text) for text in texts]
    right = [factors[name] == words[name] for factors, words in zip(drawn, found, strict=True) for name in words]
    return np.mean(right), len(right) / (len(drawn) * len(FACTORS))


def test_reads_fresh_posters_without_a_prompt(model, processor, posters):
    drawn, images = posters
    right, told = shares(drawn, captions(model, processor, images))
    assert right >= 0.95
    assert told >= 0.90


def test_reads_fresh_posters_after_the_default_prompt(model, processor, posters):
    drawn, images = posters
    right, told = shares(drawn[:50], captions(model, processor, images[:50], [DEFAULT_PROMPT] * 50))
    assert right >= 0.95
    assert told >= 0.90


def test_prompts_of_different_length_share_a_batch(model, processor, posters):
    """Left padding: a caption is the same whether its neighbours' prompts are longer or it stands alone."""
    _, images = posters
    prompts = ["Describe this poster.", DEFAULT_PROMPT, "a poster of"]
    together = captions(model, processor, images[:3], prompts)
    alone = [
        captions(model, processor, [image], [prompt])[0] for image, prompt in zip(images[:3], prompts, strict=True)
    ]
    assert together == alone
    assert len(set(together)) == 3


def test_gate_of_the_training_script_agrees(model, processor):
    figures = gate(model, processor.tokenizer, *draw_pool(40, np.random.default_rng(5)))
    assert figures["right"] >= 0.95
    assert figures["told"] >= 0.90
    assert min(figures[name] for name in FACTORS) >= 0.8


def test_training_sees_what_the_processor_makes(processor):
    rng = np.random.default_rng(8)
    pool, drawn = draw_pool(1, rng)
    rng = np.random.default_rng(8)
    assert draw_factors(rng) == drawn[0]
    through = processor(images=draw_poster(drawn[0], rng), return_tensors="pt")["pixel_values"]
    assert torch.allclose(through, pixels(pool), atol=1e-5)


@pytest.mark.parametrize(
    "text", ["A lone dog.", "犬と月、雪の夜。", "naïve – ☕️ \n\t x", "", "<b>&amp;</b>  two  spaces"]
)
def test_tokenizer_keeps_any_text(processor, text):
    ids = processor.tokenizer(text)["input_ids"]
    assert ids[0] == processor.tokenizer.bos_token_id
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_package_is_small_and_loads_as_float32(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    assert model.dtype == torch.float32
    assert 1_500_000 < sum(weight.numel() for weight in model.parameters()) < 3_000_000
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Blip2ForConditionalGeneration"]
