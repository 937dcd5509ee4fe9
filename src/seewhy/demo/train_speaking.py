"""Second step of training the tiny VLM: projection and language model learn to put what is seen into words.

What was learnt in the first step stays frozen, so the query outputs are computed once. Posters are captioned in
English, photos described in Japanese, whatever the prompt before it; a prompt carries no loss.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from seewhy.demo.captions import caption
from seewhy.demo.descriptions import describe
from seewhy.demo.districts import OBJECTS, PAVEMENTS
from seewhy.demo.maps import HOT
from seewhy.demo.pictures import Photos, Sight, pixels, seen_alone, seen_under_heat
from seewhy.demo.train_seeing import one_cycle, see
from seewhy.describe import default_prompt
from seewhy.vlm.base import DEFAULT_PROMPT

# Instructions that the model gets used to: it answers each in its own way, whole or in pieces in any order.
_ENGLISH = (
    DEFAULT_PROMPT,
    *(f"{sentence.strip('. ')}." for sentence in DEFAULT_PROMPT.split(". ")),
    "Describe this poster.",
    "Please describe the picture briefly.",
    "Write a short caption for the image, without proper nouns and numbers.",
    "Focus on atmosphere, appeal and distinctive features.",
    "What is in this image?",
    "Be concise and answer in two or three sentences.",
    "a poster of",
    "Tell me what a viewer would see and feel, and why they would remember it.",
    "Do not guess who or where it is.",
    "Mention the colors, the weather, the people and the lettering.",
    "The left half is a photo, the right half shows how important each pixel was to a model.",
    "Name the objects that the heat map points at and say what is typical of them.",
)
_JAPANESE = (
    "この写真を説明してください。",
    "写真に写っている物を挙げてください。",
    "左は入力画像、右はモデルが注目した場所を色で示した画像です。",
    "機械学習モデルが画像のどこを重要と見なしたかを、画素ごとに計算しました。",
    "赤い部分ほど重要です。",
    "強調されている物の特徴を、日本語で簡潔に述べてください。",
    "モデルの判断の根拠となる物は何ですか。",
    "地名や固有名詞は使わないでください。",
    "二文か三文で答えてください。",
    "背景についても述べてください。",
    "推測は書かず、見えるものだけを書いてください。",
    "撮影された場所を特定するモデルを開発しました。",
)

_DEFAULTS = (
    DEFAULT_PROMPT,
    *(default_prompt(language, "map", stitched=True) for language in ("ja", "en")),
    *(default_prompt(language, "none") for language in ("ja", "en")),
)
INSTRUCTIONS = (*_DEFAULTS, *_ENGLISH, *_JAPANESE)


@dataclass(frozen=True)
class Seen:
    """Query outputs (N, queries, 128) of pictures, and what is to be said of them.

    Attributes:
        said: a poster's factors, or a photo's (objects to name, pavement, whether it came with a map).
    """

    queries: torch.Tensor
    said: list[dict[str, str] | tuple[tuple[str, ...], str, bool]]

    def text(self, row: int, rng: np.random.Generator) -> str:
        said = self.said[row]
        if isinstance(said, dict):
            return caption(said, rng)
        objects, pavement, heat = said
        return describe(objects, pavement, rng, heat=heat)


@torch.no_grad()
def look(
    model: Blip2ForConditionalGeneration,
    posters: tuple[torch.Tensor, list[dict[str, str]]],
    photos: Photos,
    rng: np.random.Generator,
) -> tuple[Seen, Seen, Seen]:
    """Posters, photos under maps, photos alone."""
    pool, drawn = posters
    seen_posters = Seen(torch.cat([see(model, pixels(part))[1] for part in pool.split(256)]), list(drawn))
    parts = [rows.tolist() for rows in np.array_split(np.arange(len(photos)), max(1, len(photos) // 256))]
    under = [seen_under_heat(photos, rows, rng) for rows in parts]
    alone = [seen_alone(photos, rows) for rows in parts]
    return seen_posters, _look_at(model, under, heat=True), _look_at(model, alone, heat=False)


def _look_at(model: Blip2ForConditionalGeneration, sights: list[Sight], *, heat: bool) -> Seen:
    queries = torch.cat([see(model, pixels(sight.images))[1] for sight in sights])
    return Seen(queries, [told for sight in sights for told in to_tell(sight, heat=heat)])


def to_tell(sight: Sight, *, heat: bool) -> list[tuple[tuple[str, ...], str, bool]]:
    """Per photo the objects to name (of those present the hot ones, without a map all), the pavement, and `heat`."""
    told = []
    for hot, setts in zip((sight.heat >= HOT).tolist(), sight.setts.tolist(), strict=True):
        objects = tuple(name for name, is_hot in zip(OBJECTS, hot, strict=True) if is_hot)
        told.append((objects, PAVEMENTS[0 if setts else 1], heat))
    return told


def draw_prompt(rng: np.random.Generator) -> str:
    """Nothing half of the time, else a default prompt, one to four instructions, or scraps of instructions.

    The scraps stand for all the prompts that nobody thought of.
    """
    if rng.random() < 0.5:
        return ""
    kind = rng.random()
    if kind < 0.35:
        return _DEFAULTS[rng.integers(len(_DEFAULTS))]
    if kind < 0.65:
        return "".join(_scrap(INSTRUCTIONS[rng.integers(len(INSTRUCTIONS))], rng) for _ in range(rng.integers(1, 7)))
    language = _ENGLISH if rng.random() < 0.4 else _JAPANESE
    picked = rng.permutation(len(language))[: rng.integers(1, 5)]
    return (" " if language is _ENGLISH else "").join(language[i] for i in picked)


def _scrap(text: str, rng: np.random.Generator) -> str:
    """A random piece of 3 to 30 characters, whole where the text is shorter."""
    length = int(rng.integers(3, 31))
    start = int(rng.integers(max(1, len(text) - length)))
    return text[start : start + length]


def train_speaking(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    seen: tuple[Seen, Seen, Seen],
    *,
    steps: int,
    rng: np.random.Generator,
    each: tuple[int, int, int] = (24, 28, 12),
) -> None:
    """Batches of posters, photos under maps and photos alone, which share a prompt: pads only follow what is learnt."""
    weights = [*model.language_projection.parameters(), *model.language_model.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
    schedule, start = one_cycle(optimizer, steps), time.monotonic()
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    for step in range(steps):
        texts, queries = [], []
        for kind, count in zip(seen, each, strict=True):
            rows = rng.integers(len(kind.said), size=count)
            texts += [kind.text(row, rng) for row in rows]
            queries.append(kind.queries[torch.from_numpy(rows)])
        prompts = [draw_prompt(rng)] * len(texts)
        ids, labels = speaking_batch(tokenizer, texts, prompts, model.config.num_query_tokens)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.language_projection(torch.cat(queries))
            embeds = torch.cat([image.float(), model.get_input_embeddings()(ids[:, image.shape[1] :])], dim=1)
            loss = model.language_model(inputs_embeds=embeds, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"speak {step + 1} {time.monotonic() - start:.0f}s loss {loss.item():.4f}", flush=True)
    model.set_attn_implementation(usual)


def speaking_batch(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], prompts: list[str], queries: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (N, T) with the image's places first, and labels with -100 where nothing is to be learnt."""
    image = [tokenizer.convert_tokens_to_ids("<image>")] * queries
    before = [image + ids for ids in tokenizer(prompts)["input_ids"]]
    spaced = [f" {text}" if prompt else text for text, prompt in zip(texts, prompts, strict=True)]
    after = [[*ids, 2] for ids in tokenizer(spaced, add_special_tokens=False)["input_ids"]]
    longest = max(len(first) + len(then) for first, then in zip(before, after, strict=True))
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    labels = torch.full((len(texts), longest), -100)
    for row, (first, then) in enumerate(zip(before, after, strict=True)):
        ids[row, : len(first) + len(then)] = torch.tensor(first + then)
        labels[row, len(first) : len(first) + len(then)] = torch.tensor(then)
    return ids, labels
