"""How well the tiny VLM tells what fresh posters and photos show: the figures that its training prints at the end."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor, PreTrainedTokenizerFast

from seewhy.demo.captions import mentioned
from seewhy.demo.descriptions import named, names_setts
from seewhy.demo.districts import SETTS, draw_any
from seewhy.demo.factors import FACTORS, draw_factors
from seewhy.demo.maps import HOT, UNSURE, box_means, random_map
from seewhy.demo.photos import Photo, draw_photo
from seewhy.demo.pictures import pixels
from seewhy.demo.posters import draw_poster
from seewhy.demo.questions import PAVED, POSTER_QUESTIONS, SEEN, photo_answer, poster_conversation
from seewhy.overlay import enlarged, overlay, side_by_side
from seewhy.vlm.chat import prompt_of


def gate(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: torch.Tensor,
    drawn: list[dict[str, str]],
) -> dict[str, float]:
    """Greedy captions of posters (N, 3, 96, 96) uint8 without a prompt against the truth.

    Returns `right`, the share of mentioned factors that are right, `told`, the share of drawn factors that are
    mentioned, and per factor the share of posters that are told right.
    """
    model.eval()
    texts = []
    for part in pool.split(100):
        ids = model.generate(pixel_values=pixels(part), max_new_tokens=96, do_sample=False)
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    found = [mentioned(text) for text in texts]
    told = [(name, factors[name] == words[name]) for factors, words in zip(drawn, found, strict=True) for name in words]
    result = {"right": sum(ok for _, ok in told) / max(1, len(told)), "told": len(told) / (len(drawn) * len(FACTORS))}
    for name in FACTORS:
        result[name] = sum(ok for other, ok in told if other == name) / len(drawn)
    return result


def under_heat(photo: Photo, heat: np.ndarray) -> tuple[Image.Image, dict[str, float]]:
    """Photo and overlay side by side as a study shows them, and the mean heat over each object's box."""
    rgb = np.asarray(photo.image)
    means = box_means(enlarged(heat, *rgb.shape[:2]), list(photo.boxes.values()))
    pair = Image.fromarray(side_by_side(rgb, overlay(rgb, heat)))
    return pair, dict(zip(photo.boxes, means.tolist(), strict=True))


def grade(texts: Iterable[str], heats: Iterable[dict[str, float]]) -> dict[str, float]:
    """Descriptions against the heat over the objects of their photos (1 for all of them where there was no map).

    An object is hot at a mean of HOT + UNSURE or more, cold at HOT - UNSURE or less; in between, naming it is neither
    right nor wrong.

    Returns:
        named: share of the hot objects that are named.
        hot: how many there were.
        false: share of the named objects that are cold or not in the photo at all.
    """
    hit = hot = false = told = 0
    for text, means in zip(texts, heats, strict=True):
        said = named(text)
        under = {name for name, mean in means.items() if mean >= HOT + UNSURE}
        cold = {name for name in said if means.get(name, 0.0) <= HOT - UNSURE}
        hit, hot, false, told = hit + len(under & said), hot + len(under), false + len(cold), told + len(said)
    return {"named": hit / max(1, hot), "hot": float(hot), "false": false / max(1, told)}


def photo_gate(
    model: Blip2ForConditionalGeneration, processor: Blip2Processor, *, count: int, seed: int, prompt: str = ""
) -> dict[str, float]:
    """Greedy descriptions of fresh photos, under random maps and alone: `grade` of either and the pavements told right.

    Args:
        prompt: before every description.
    """
    rng = np.random.default_rng(seed)
    scenes = [draw_any(rng) for _ in range(count)]
    photos = [draw_photo(scene, rng) for scene in scenes]
    pairs, heats = zip(
        *(under_heat(photo, random_map(rng, list(photo.boxes.values()))) for photo in photos), strict=True
    )
    by_map = write(model, processor, list(pairs), prompt)
    alone = write(model, processor, [photo.image for photo in photos], prompt)
    pavements = [
        names_setts(text) == (scene.pavement == SETTS) for text, scene in zip(by_map + alone, scenes * 2, strict=True)
    ]
    everything = [dict.fromkeys(scene.objects, 1.0) for scene in scenes]
    figures = {f"map_{key}": value for key, value in grade(by_map, heats).items()}
    figures |= {f"alone_{key}": value for key, value in grade(alone, everything).items()}
    return {**figures, "pavement": float(np.mean(pavements))}


def answer_gate(
    model: Blip2ForConditionalGeneration, processor: Blip2Processor, *, count: int, seed: int
) -> dict[str, float]:
    """Share of the questions about fresh pictures that are answered right, word for word, greedily.

    Every question is asked of every poster, its wordings in turn: `answers`, their share, and under each question's
    plainest wording its own. `in_chat`: a conversation a poster, see `poster_conversation`. Of photos alone: `objects`,
    the share of those asked after all objects whose answer names all of them and no other, and `paved`.
    """
    rng = np.random.default_rng(seed)
    drawn = [draw_factors(rng) for _ in range(count)]
    posters = [draw_poster(factors, rng) for factors in drawn]
    figures: dict[str, float] = {}
    for asked in POSTER_QUESTIONS:
        wordings = [asked.wordings[row % len(asked.wordings)] for row in range(count)]
        said = write(model, processor, posters, [prompt_of(one) for one in wordings], most=24)
        right = [text == asked.answers[factors[asked.factor]] for text, factors in zip(said, drawn, strict=True)]
        figures[asked.wordings[0]] = float(np.mean(right))
    figures = {"answers": float(np.mean(list(figures.values()))), **figures}
    prompts, answers = zip(*(poster_conversation(factors, rng) for factors in drawn), strict=True)
    said = write(model, processor, posters, prompts, most=24)
    figures["in_chat"] = float(np.mean([text == answer for text, answer in zip(said, answers, strict=True)]))
    scenes = [draw_any(rng) for _ in range(count)]
    photos = [draw_photo(scene, rng).image for scene in scenes]
    for name, questions in (("objects", SEEN), ("paved", PAVED)):
        chosen = [questions[row % len(questions)] for row in range(count)]
        said = write(model, processor, photos, [prompt_of(one) for one in chosen], most=64)
        right = [text == photo_answer(one, scene) for text, one, scene in zip(said, chosen, scenes, strict=True)]
        figures[name] = float(np.mean(right))
    return figures


def write(
    model: Blip2ForConditionalGeneration,
    processor: Blip2Processor,
    images: list[Image.Image],
    prompt: str | Sequence[str] = "",
    *,
    most: int = 96,
) -> list[str]:
    """Greedy texts for images, with one prompt for all or one for each; what the model wrote after the prompt."""
    model.eval()
    prompts = [prompt] * len(images) if isinstance(prompt, str) else list(prompt)
    texts: list[str] = []
    for start in range(0, len(images), 100):
        part = images[start : start + 100]
        text = prompts[start : start + 100] if any(prompts) else None
        inputs = processor(images=part, text=text, return_tensors="pt", padding=True)
        ids = model.generate(**inputs, max_new_tokens=most, do_sample=False)
        skip = inputs["input_ids"].shape[1] if text else 0
        texts += [text.strip() for text in processor.batch_decode(ids[:, skip:], skip_special_tokens=True)]
    return texts


def figures_line(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items())
