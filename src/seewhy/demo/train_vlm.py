"""Trains the packaged tiny BLIP-2 on drawn posters, in the two steps of the paper (Li et al. 2023, arXiv:2301.12597).

1. Seeing: vision tower and Q-Former learn to tell the factors. Query i has a linear head for factor i, and every patch
   is asked for all factors, so that the few patches that show a detail are graded on their own; the heads are thrown
   away. (The paper aligns image and text here; with drawn images the truth itself is at hand.)
2. Speaking: what was learnt stays frozen, its query outputs are computed once, and the projection and the language
   model learn to caption from them, now and then after a prompt, which carries no loss.

Nothing is downloaded; one seed sets all draws.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from seewhy.demo.posters import FACTORS, caption, draw_factors, draw_poster, mentioned
from seewhy.vlm.base import DEFAULT_PROMPT

PIXELS = 96
QUERIES = 16
VOCABULARY = 1024
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")

# Instructions that the model gets used to: it answers each with a caption, whole or in pieces in any order.
_INSTRUCTIONS = (
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
)


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from `texts`: any Unicode text survives the way there and back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=400,
    )


def build_model(vocabulary: int) -> Blip2ForConditionalGeneration:
    """An untrained Blip2ForConditionalGeneration of 2.2M parameters: ViT 4x128, Q-Former 2x128, OPT 3x128."""
    vision = Blip2VisionConfig(
        hidden_size=128,
        num_attention_heads=4,
        intermediate_size=512,
        num_hidden_layers=4,
        image_size=PIXELS,
        patch_size=12,
        initializer_range=0.02,
    )
    qformer = Blip2QFormerConfig(
        hidden_size=128,
        num_attention_heads=4,
        vocab_size=8,
        intermediate_size=512,
        num_hidden_layers=2,
        cross_attention_frequency=1,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    text = OPTConfig(
        hidden_size=128,
        num_attention_heads=4,
        vocab_size=vocabulary,
        word_embed_proj_dim=128,
        ffn_dim=512,
        num_hidden_layers=3,
        max_position_embeddings=512,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = Blip2Config(
        vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=QUERIES, image_token_index=3
    )
    model = Blip2ForConditionalGeneration(config)
    # Queries start at zero in transformers, and equal queries would stay equal for ever.
    nn.init.normal_(model.query_tokens, std=0.5)
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0, max_new_tokens=96, do_sample=False)
    return model


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Blip2Processor:
    images = BlipImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )
    return Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)


def draw_pool(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[dict[str, str]]]:
    """Posters at the size that the processor makes of them, (N, 3, 96, 96) uint8, and their factors."""
    pool = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    drawn = []
    for image in pool:
        factors = draw_factors(rng)
        small = draw_poster(factors, rng).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
        image[:] = np.asarray(small).transpose(2, 0, 1)
        drawn.append(factors)
    return torch.from_numpy(pool), drawn


def pixels(pool: torch.Tensor) -> torch.Tensor:
    """uint8 as the processor normalises it, to -1 .. 1."""
    return pool.float() / 127.5 - 1


def level_indices(drawn: list[dict[str, str]]) -> torch.Tensor:
    """(N, factors) the index of each factor's level."""
    rows = [[FACTORS[name].levels.index(factors[name]) for name in FACTORS] for factors in drawn]
    return torch.tensor(rows)


def _schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over 5% of the steps, then a cosine to zero."""
    warm = max(1, steps // 20)

    def scale(step: int) -> float:
        return (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / (steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)


def see(model: Blip2ForConditionalGeneration, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (N, 65, 128) and query outputs (N, 16, 128) of normalised images."""
    patches = model.vision_model(images).last_hidden_state
    queries = model.query_tokens.expand(len(images), -1, -1)
    return patches, model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state


class _Heads(nn.Module):
    """Factor logits (N, factors) from the first queries, one each, and (N, 65, factors) from every patch."""

    def __init__(self) -> None:
        super().__init__()
        self.by_query = nn.Parameter(torch.randn(len(FACTORS), 128) * 0.02)
        self.by_patch = nn.Linear(128, len(FACTORS))

    def forward(self, patches: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = (queries[:, : len(FACTORS)] * self.by_query).sum(-1)
        return logits, self.by_patch(patches)


def train_seeing(
    model: Blip2ForConditionalGeneration,
    pool: torch.Tensor,
    drawn: list[dict[str, str]],
    *,
    steps: int,
    batch: int,
    rng: np.random.Generator,
) -> None:
    """Step 1; prints loss and accuracy per factor on fresh draws as it goes."""
    heads, truth = _Heads(), level_indices(drawn).float()
    fresh, fresh_drawn = draw_pool(512, rng)
    fresh_truth = level_indices(fresh_drawn)
    weights = [*model.vision_model.parameters(), *model.qformer.parameters(), model.query_tokens, *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    schedule, start = _schedule(optimizer, steps), time.monotonic()
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(len(pool), size=batch))
        with torch.autocast("cpu", torch.bfloat16):
            patches, queries = see(model, _shifted(pixels(pool[rows]), rng))
        by_query, by_patch = heads(patches.float(), queries.float())
        loss = functional.binary_cross_entropy_with_logits(by_query, truth[rows])
        spread = truth[rows][:, None].expand_as(by_patch)
        loss = loss + functional.binary_cross_entropy_with_logits(by_patch, spread)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            with torch.no_grad():
                right = (heads(*see(model, pixels(fresh)))[0] > 0) == (fresh_truth > 0)
            shares = " ".join(
                f"{name} {share:.3f}" for name, share in zip(FACTORS, right.float().mean(0).tolist(), strict=True)
            )
            print(f"see {step + 1} {time.monotonic() - start:.0f}s loss {loss.item():.4f} {shares}", flush=True)


def _shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Images moved by up to 2 pixels and made a little lighter or darker, so that the pool lasts longer."""
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    top, left = rng.integers(5, size=2)
    light = torch.from_numpy(rng.uniform(-0.06, 0.06, size=(len(images), 1, 1, 1))).float()
    return padded[:, :, top : top + PIXELS, left : left + PIXELS] + light


def _prompt(rng: np.random.Generator) -> str:
    """Nothing most of the time, else the default prompt or one to three instructions."""
    if rng.random() < 0.6:
        return ""
    if rng.random() < 0.3:
        return DEFAULT_PROMPT
    picked = rng.permutation(len(_INSTRUCTIONS))[: rng.integers(1, 4)]
    return " ".join(_INSTRUCTIONS[i] for i in picked)


def _speaking_batch(
    tokenizer: PreTrainedTokenizerFast, captions: list[str], prompt: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (N, T) with the image's places first, and labels with -100 where nothing is to be learnt."""
    before = [3] * QUERIES + tokenizer(prompt)["input_ids"]
    after = tokenizer([f" {text}" if prompt else text for text in captions], add_special_tokens=False)["input_ids"]
    longest = max(len(ids) for ids in after) + 1
    ids = torch.tensor([before + row + [2] + [0] * (longest - len(row) - 1) for row in after])
    labels = ids.clone()
    labels[:, : len(before)] = -100
    for line, row in zip(labels, after, strict=True):
        line[len(before) + len(row) + 1 :] = -100
    return ids, labels


def train_speaking(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: torch.Tensor,
    drawn: list[dict[str, str]],
    *,
    steps: int,
    batch: int,
    rng: np.random.Generator,
) -> None:
    """Step 2. A batch shares its prompt, so that pads only follow what is learnt."""
    with torch.no_grad():
        queries = torch.cat([see(model, pixels(part))[1] for part in pool.split(256)])
    weights = [*model.language_projection.parameters(), *model.language_model.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
    schedule, start = _schedule(optimizer, steps), time.monotonic()
    for step in range(steps):
        rows = rng.integers(len(pool), size=batch)
        ids, labels = _speaking_batch(tokenizer, [caption(drawn[row], rng) for row in rows], _prompt(rng))
        with torch.autocast("cpu", torch.bfloat16):
            seen = model.language_projection(queries[torch.from_numpy(rows)])
            embeds = torch.cat([seen.float(), model.get_input_embeddings()(ids[:, QUERIES:])], dim=1)
            loss = model.language_model(inputs_embeds=embeds, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"speak {step + 1} {time.monotonic() - start:.0f}s loss {loss.item():.4f}", flush=True)
        if (step + 1) % 500 == 0:
            print(gate_line(gate(model, tokenizer, *draw_pool(128, rng))), flush=True)


def gate(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: torch.Tensor,
    drawn: list[dict[str, str]],
) -> dict[str, float]:
    """Greedy captions without a prompt against the truth.

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


def gate_line(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {share:.4f}" for name, share in figures.items())


def save(model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights as fp16 on disk; the configuration says fp32, which is what `from_pretrained` makes of them."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    build_processor(tokenizer).save_pretrained(folder)


def train_vlm(folder: Path, *, seed: int, posters: int, see_steps: int, speak_steps: int) -> None:
    """Draws, trains in both steps, saves to `folder`, loads it again and prints the gate of 500 fresh draws last."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    pool, drawn = draw_pool(posters, rng)
    print(f"drew {posters} posters in {time.monotonic() - start:.0f}s", flush=True)
    texts = [caption(factors, rng) for factors in drawn] + [_prompt(rng) for _ in range(posters // 8)]
    tokenizer = build_tokenizer(texts)
    model = build_model(len(tokenizer))
    train_seeing(model, pool, drawn, steps=see_steps, batch=64, rng=rng)
    train_speaking(model, tokenizer, pool, drawn, steps=speak_steps, batch=64, rng=rng)
    save(model, tokenizer, folder)
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    loaded = Blip2ForConditionalGeneration.from_pretrained(folder)
    print("gate", gate_line(gate(loaded, tokenizer, *draw_pool(500, np.random.default_rng(seed + 1_000_003)))))
