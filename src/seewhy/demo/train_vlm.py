"""Trains the packaged tiny BLIP-2 on drawn posters and photos, in the two steps of the paper (Li et al. 2023,
arXiv:2301.12597): seeing (`train_seeing.py`), then speaking with what was seen held fixed (`train_speaking.py`).
A third step teaches it to answer questions (`train_answering.py`).

Posters are captioned in English. Photos are described in Japanese: with a heat map beside it, what lies under the hot
region; alone, all that it shows. Nothing is downloaded; one seed sets all draws. The third step begins from the files
that the first two wrote, with draws of its own, so that it can be taken again without them (`train_tiny answers`): the
packaged weights come from there, by one thread in some 8 minutes of computing.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoProcessor,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from seewhy.demo.captions import caption
from seewhy.demo.descriptions import describe
from seewhy.demo.districts import draw_any
from seewhy.demo.factors import draw_factors
from seewhy.demo.gates import answer_gate, figures_line, gate, photo_gate
from seewhy.demo.pictures import PIXELS, draw_photos, draw_pool
from seewhy.demo.train_answering import train_answering
from seewhy.demo.train_seeing import train_seeing
from seewhy.demo.train_speaking import INSTRUCTIONS, look, train_speaking

QUERIES = 16
VOCABULARY = 1600
SPECIAL = ("<pad>", "<s>", "</s>", "<image>", *(f"<unused{number}>" for number in range(8)))
"""The unused ones are kept for later tasks."""


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from `texts`: any Unicode text survives the way there and back.

    Japanese is cut where kanji, hiragana and katakana meet, so that a token is a word or its ending and never half a
    sentence: a prompt in other words is still made of tokens that the model knows.
    """
    tokenizer = Tokenizer(models.BPE())
    scripts = pre_tokenizers.Split(Regex(r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([scripts, pre_tokenizers.ByteLevel(add_prefix_space=False)])
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
        model_max_length=900,
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
        max_position_embeddings=1024,
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


def save(model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights as fp16 on disk; the configuration says fp32, which is what `from_pretrained` makes of them."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    build_processor(tokenizer).save_pretrained(folder)


def texts_to_learn(rng: np.random.Generator, count: int = 6000) -> list[str]:
    """Captions, descriptions and instructions for the tokenizer to learn from."""
    texts = [caption(draw_factors(rng), rng) for _ in range(count)]
    for _ in range(count):
        scene = draw_any(rng)
        texts.append(describe(scene.objects, scene.pavement, rng, heat=bool(rng.integers(2))))
    return texts + [text for text in INSTRUCTIONS for _ in range(count // 20)]


def train_vlm(
    folder: Path,
    *,
    seed: int,
    posters: int,
    photos: int,
    see_steps: int,
    speak_steps: int,
    answer_pictures: int,
    answer_steps: int,
) -> None:
    """Draws, trains in the first two steps and saves to `folder`, then begins from there with the third.

    The figures on fresh draws come last.
    """
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    poster_pool, photo_pool = draw_pool(posters, rng), draw_photos(photos, rng)
    print(f"drew {posters} posters and {photos} photos in {time.monotonic() - start:.0f}s", flush=True)
    tokenizer = build_tokenizer(texts_to_learn(rng))
    model = build_model(len(tokenizer))
    train_seeing(model, poster_pool, photo_pool, steps=see_steps, rng=rng)
    train_speaking(model, tokenizer, look(model, poster_pool, photo_pool, rng), steps=speak_steps, rng=rng)
    save(model, tokenizer, folder)
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    del poster_pool, photo_pool
    train_answers(folder, folder, seed=seed, pictures=answer_pictures, steps=answer_steps)


def train_answers(start: Path, folder: Path, *, seed: int, pictures: int, steps: int) -> None:
    """The third step alone, from the model that the first two saved in `start`; its figures on fresh draws last.

    Args:
        pictures: posters, and as many photos, that are drawn to be asked about.
    """
    began = time.monotonic()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 2_000_003)
    poster_pool, photo_pool = draw_pool(pictures, rng), draw_photos(pictures, rng)
    print(f"drew {pictures} posters and {pictures} photos in {time.monotonic() - began:.0f}s", flush=True)
    model = Blip2ForConditionalGeneration.from_pretrained(start)
    tokenizer = AutoProcessor.from_pretrained(start, trust_remote_code=False).tokenizer
    seen = look(model, poster_pool, photo_pool, rng)
    train_answering(model, tokenizer, seen, poster_pool[1], photo_pool, steps=steps, rng=rng)
    save(model, tokenizer, folder)
    print(f"taught to answer in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    print_figures(folder, seed=seed + 1_000_003)


def print_figures(folder: Path, *, seed: int) -> None:
    """What the model in `folder` makes of 500 fresh posters and 500 fresh photos."""
    model = Blip2ForConditionalGeneration.from_pretrained(folder, use_safetensors=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    fresh = draw_pool(500, np.random.default_rng(seed))
    print("posters", figures_line(gate(model, processor.tokenizer, *fresh)), flush=True)
    print("photos", figures_line(photo_gate(model, processor, count=500, seed=seed)), flush=True)
    print("questions", figures_line(answer_gate(model, processor, count=500, seed=seed)), flush=True)
