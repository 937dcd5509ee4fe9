"""Pretrains the packaged tiny BERT on caption texts, so that few ratings are enough to fine-tune it.

Two tasks at once, both on texts alone, no rating among them:
    masked words      as in BERT; the share that is masked varies from 15% to 90%, because Shapley values ask the
                      fine-tuned model about texts that are mostly masked
    what is said      the mean over the tokens is to say what the words still visible tell, and nothing else: 10
                      coordinates are the factors' levels as -1 or 1, and 0 where none is visible; 45 are the products
                      of two factors; the others are 0, so that two wordings of one content mean the same. Without the
                      products a mean-pooled model this small has to find them in the few hundred ratings themselves.
"""

import itertools
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForPreTraining, PreTrainedTokenizerFast

from seewhy.demo.captions import caption
from seewhy.demo.factors import FACTORS, draw_factors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAIRS = tuple(itertools.combinations(range(len(FACTORS)), 2))


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A lower-cased WordPiece whose vocabulary holds the captions' words whole, and Latin letters for all others."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=2000,
        special_tokens=list(SPECIAL),
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=256,
    )


def build_model(vocabulary: int) -> BertForPreTraining:
    return BertForPreTraining(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=256,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def mask_tokens(
    ids: torch.Tensor, share: torch.Tensor, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces each ordinary token by [MASK] with its row's probability `share` (N,).

    Returns the masked ids and the labels, both (N, T); labels are -100 where nothing was masked.
    """
    ordinary = ids >= len(SPECIAL)
    hit = ordinary & (torch.rand(ids.shape, generator=generator) < share[:, None])
    return ids.masked_fill(hit, SPECIAL.index("[MASK]")), ids.masked_fill(~hit, -100)


def mean_pooled(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """(N, T, D) -> (N, D): the mean over the tokens that are not pads."""
    weight = attention_mask[:, :, None].to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1)


class _Told:
    """What the visible words of a batch tell, read back from its token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.level_of = torch.zeros(len(tokenizer), len(FACTORS), 2)
        for index, factor in enumerate(FACTORS.values()):
            for side, words in enumerate(factor.words.values()):
                for word in words:
                    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
                    if len(ids) != 1:
                        raise ValueError(f"telling word {word!r} is {len(ids)} tokens, must be 1")
                    self.level_of[ids[0], index, side] = 1

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """(N, T) -> (N, factors, 2): 1 where a word of the level is visible."""
        return self.level_of[ids].amax(1)


def meaning(told: torch.Tensor) -> torch.Tensor:
    """What the pooled vector should be, (N, 128), from what is told, (N, factors, 2): levels, products, zeros."""
    levels = told[:, :, 1] - told[:, :, 0]
    products = levels[:, [first for first, _ in PAIRS]] * levels[:, [second for _, second in PAIRS]]
    content = torch.cat([levels, products], dim=1)
    return functional.pad(content, (0, 128 - content.shape[1]))


def train_encoder(folder: Path, *, seed: int, steps: int = 2000, batch: int = 48) -> None:
    """Pretrains on captions drawn as it goes and saves it (a BertForPreTraining) with its tokenizer to `folder`."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    tokenizer = build_tokenizer([caption(draw_factors(rng), rng) for _ in range(5000)])
    model, told = build_model(len(tokenizer)), _Told(tokenizer)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    warm = steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
    )
    for step in range(steps):
        texts = [caption(draw_factors(rng), rng) for _ in range(batch)]
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
        share = torch.where(torch.rand(batch) < 0.4, torch.zeros(batch), torch.rand(batch) * 0.75 + 0.15)
        ids, labels = mask_tokens(encoded["input_ids"], share)
        hit = labels != -100
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.bert(ids, attention_mask=encoded["attention_mask"]).last_hidden_state
            masked = functional.cross_entropy(model.cls.predictions(hidden[hit]), labels[hit])
        pooled = mean_pooled(hidden.float(), encoded["attention_mask"])
        said = (pooled - meaning(told(ids))).square().mean()
        optimizer.zero_grad()
        (masked + 10 * said).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            seconds = time.monotonic() - start
            print(f"{step + 1} {seconds:.0f}s masked {masked.item():.3f} said {said.item():.4f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
