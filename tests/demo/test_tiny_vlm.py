"""The packaged tiny BLIP-2, through the same classes as the 2.7B model."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoProcessor, Blip2ForConditionalGeneration

import seewhy.demo
from seewhy.demo.captions import mentioned
from seewhy.demo.districts import draw_any
from seewhy.demo.factors import FACTORS, draw_factors
from seewhy.demo.gates import answer_gate, gate, grade, photo_gate, under_heat, write
from seewhy.demo.maps import random_map
from seewhy.demo.photos import draw_photo
from seewhy.demo.pictures import draw_pool, pixels
from seewhy.demo.posters import draw_poster
from seewhy.demo.questions import POSTER_QUESTIONS
from seewhy.describe import Describe
from seewhy.heat import compact
from seewhy.overlay import encode_jpeg
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


@pytest.fixture(scope="module")
def described(model, processor):
    return photo_gate(model, processor, count=100, seed=20_261_121)


def test_names_what_lies_under_the_hot_region(described):
    """Of the boxes that are clearly hot (mean heat 0.5 or more): HOT and UNSURE say what is left out."""
    assert described["map_hot"] > 80
    assert described["map_named"] >= 0.90
    assert described["map_false"] <= 0.08


def test_names_all_of_a_photo_without_a_map(described):
    assert described["alone_named"] >= 0.90
    assert described["alone_false"] <= 0.08
    assert described["pavement"] >= 0.95


@pytest.mark.parametrize("control", ["map", "none"])
def test_a_study_describes_photos_with_it(control):
    """Through JPEG, stored map and default prompt, as a study does."""
    rng = np.random.default_rng(12)
    photos = [draw_photo(draw_any(rng), rng) for _ in range(60)]
    heats = [random_map(rng, list(photo.boxes.values())) for photo in photos]
    rows = [
        {
            "id": f"{number:032x}",
            "image": encode_jpeg(np.asarray(photo.image), quality=90),
            "map": compact(heat)[0],
            "height": heat.shape[0],
            "width": heat.shape[1],
        }
        for number, (photo, heat) in enumerate(zip(photos, heats, strict=True))
    ]
    found = Describe(backend="tiny", control=control)(pa.Table.from_pylist(rows)).to_pylist()
    assert [row["finish_reason"] for row in found] == ["stop"] * 60
    means = [under_heat(photo, heat)[1] for photo, heat in zip(photos, heats, strict=True)]
    everything = [dict.fromkeys(photo.boxes, 1.0) for photo in photos]
    figures = grade([row["text"] for row in found], means if control == "map" else everything)
    assert figures["hot"] > 30
    assert figures["named"] >= 0.90
    assert figures["false"] <= 0.08


# A Japanese instruction and one that nobody trained it with.
PROMPTS = [
    "左は写真、右は機械学習モデルが注目した部分を示す画像です。注目された物とその特徴を日本語で説明してください。",
    "これは何の写真か、道ばたで友人に話すように教えて。",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_does_not_disturb_it(model, processor, prompt):
    figures = photo_gate(model, processor, count=60, seed=9, prompt=prompt)
    assert figures["map_named"] >= 0.90
    assert figures["map_false"] <= 0.08
    assert figures["alone_named"] >= 0.90


def test_posters_stay_english_and_photos_japanese(model, processor, posters):
    _, images = posters
    assert all(text.isascii() for text in write(model, processor, images[:20], PROMPTS[0]))


@pytest.fixture(scope="module")
def answers(model, processor):
    return answer_gate(model, processor, count=60, seed=20_261_121)


def test_answers_questions_about_fresh_posters(answers):
    assert answers["answers"] >= 0.95
    assert min(answers[asked.wordings[0]] for asked in POSTER_QUESTIONS) >= 0.9


def test_answers_in_a_conversation_whatever_was_said_before(answers):
    assert answers["in_chat"] >= 0.95


def test_answers_questions_about_photos(answers):
    assert answers["objects"] >= 0.8
    assert answers["paved"] >= 0.95


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
