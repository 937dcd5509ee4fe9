"""First step of training the tiny VLM: vision tower and Q-Former learn to tell what posters and photos show.

Query i has linear heads: for factor i of a poster, for whether object i stands in a photo, and for whether it is to be
named. Every patch is asked too: in posters for all factors, in photos for the objects that it covers and for its heat,
so that the few patches which show a detail are graded on their own. The heads are thrown away. (BLIP-2 aligns image
and text here, Li et al. 2023, arXiv:2301.12597; with drawn images the truth itself is at hand.)
"""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Blip2ForConditionalGeneration

from seewhy.demo.districts import OBJECTS
from seewhy.demo.factors import FACTORS
from seewhy.demo.maps import HOT, UNSURE
from seewhy.demo.pictures import (
    PIXELS,
    Photos,
    Sight,
    draw_photos,
    draw_pool,
    pixels,
    seen_alone,
    seen_under_heat,
)

WIDTH = 128
"""Of vision tower, queries and language model."""

SETTS_QUERY = len(OBJECTS)
"""The query that tells the pavement follows those of the objects."""


def see(model: Blip2ForConditionalGeneration, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (N, 65, 128) and query outputs (N, queries, 128) of normalised images."""
    patches = model.vision_model(images).last_hidden_state
    queries = model.query_tokens.expand(len(images), -1, -1)
    return patches, model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state


def level_indices(drawn: list[dict[str, str]]) -> torch.Tensor:
    """(N, factors) the index of each factor's level."""
    rows = [[FACTORS[name].levels.index(factors[name]) for name in FACTORS] for factors in drawn]
    return torch.tensor(rows)


class Heads(nn.Module):
    """Logits from queries and patches; each query's head sees that query alone."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(len(FACTORS), WIDTH) * 0.02)
        self.present = nn.Parameter(torch.randn(len(OBJECTS), WIDTH) * 0.02)
        self.hot = nn.Parameter(torch.randn(len(OBJECTS), WIDTH) * 0.02)
        self.setts = nn.Parameter(torch.randn(WIDTH) * 0.02)
        self.patch_factor = nn.Linear(WIDTH, len(FACTORS))
        self.patch_object = nn.Linear(WIDTH, len(OBJECTS) + 1)
        self.patch_warmth = nn.Linear(WIDTH, 1)

    def poster(self, queries: torch.Tensor) -> torch.Tensor:
        """(N, factors)"""
        return (queries[:, : len(FACTORS)] * self.factor).sum(-1)

    def photo(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Present and to be named, (N, objects) each, and stone setts, (N,)."""
        each = queries[:, : len(OBJECTS)]
        return (each * self.present).sum(-1), (each * self.hot).sum(-1), queries[:, SETTS_QUERY] @ self.setts


def poster_loss(heads: Heads, patches: torch.Tensor, queries: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the factors (N, factors), by query and by patch."""
    spread = truth[:, None].expand(-1, patches.shape[1], -1)
    loss = functional.binary_cross_entropy_with_logits(heads.poster(queries), truth)
    return loss + functional.binary_cross_entropy_with_logits(heads.patch_factor(patches), spread)


def photo_loss(heads: Heads, patches: torch.Tensor, queries: torch.Tensor, sight: Sight) -> torch.Tensor:
    """Cross-entropy of objects, heat and pavement, by query and by patch.

    A box whose heat is close to HOT is not graded as hot or cold.
    """
    present, hot, setts = heads.photo(queries)
    bce = functional.binary_cross_entropy_with_logits
    sure = ((sight.heat - HOT).abs() > UNSURE / 2).float()
    by_heat = (bce(hot, (sight.heat >= HOT).float(), reduction="none") * sure).sum() / sure.sum()
    by_patch = functional.cross_entropy(heads.patch_object(patches[:, 1:]).flatten(0, 1), sight.shows.flatten())
    by_warmth = bce(heads.patch_warmth(patches[:, 1:])[..., 0], sight.warmth)
    return 2 * bce(present, sight.present) + 2 * by_heat + bce(setts, sight.setts) + by_patch + 0.5 * by_warmth


def train_seeing(
    model: Blip2ForConditionalGeneration,
    posters: tuple[torch.Tensor, list[dict[str, str]]],
    photos: Photos,
    *,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Batches of 24 posters, 32 photos under maps and 12 photos alone; prints losses and accuracy on fresh draws."""
    heads, (pool, drawn) = Heads(), posters
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")  # on a CPU twice as fast as the fused kernels' way back
    truth = level_indices(drawn).float()
    fresh_posters, fresh_photos = draw_pool(300, rng), draw_photos(300, rng)
    weights = [*model.vision_model.parameters(), *model.qformer.parameters(), model.query_tokens, *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    schedule, start = one_cycle(optimizer, steps), time.monotonic()
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(len(pool), size=24))
        under = seen_under_heat(photos, rng.integers(len(photos), size=32).tolist(), rng)
        alone = seen_alone(photos, rng.integers(len(photos), size=12).tolist())
        images = pixels(torch.cat([pool[rows], under.images, alone.images]))
        with torch.autocast("cpu", torch.bfloat16):
            patches, queries = see(model, shifted(images, rng))
        patches, queries = patches.float(), queries.float()
        by_poster = poster_loss(heads, patches[:24], queries[:24], truth[rows])
        by_map = photo_loss(heads, patches[24:56], queries[24:56], under)
        by_photo = photo_loss(heads, patches[56:], queries[56:], alone)
        optimizer.zero_grad()
        (by_poster + by_map + 0.5 * by_photo).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            losses = f"poster {by_poster.item():.3f} map {by_map.item():.3f} photo {by_photo.item():.3f}"
            told = check_seeing(model, heads, fresh_posters, fresh_photos, np.random.default_rng(0))
            print(f"see {step + 1} {time.monotonic() - start:.0f}s {losses} {told}", flush=True)
    model.set_attn_implementation(usual)


@torch.no_grad()
def check_seeing(
    model: Blip2ForConditionalGeneration,
    heads: Heads,
    posters: tuple[torch.Tensor, list[dict[str, str]]],
    photos: Photos,
    rng: np.random.Generator,
) -> str:
    """Accuracy over factors, and over objects that are sure; the worst factor and object with it."""
    right = (heads.poster(see(model, pixels(posters[0]))[1]) > 0) == (level_indices(posters[1]) > 0)
    by_factor = right.float().mean(0)
    parts = [f"factors {by_factor.mean():.3f} (worst {by_factor.min():.3f})"]
    for name, sight in (
        ("map", seen_under_heat(photos, range(len(photos)), rng)),
        ("alone", seen_alone(photos, range(len(photos)))),
    ):
        present, hot, setts = heads.photo(see(model, pixels(sight.images))[1])
        found = ((present > 0) & (sight.present > 0)).sum(0) / sight.present.sum(0)
        false = ((present > 0) & (sight.present == 0)).float().mean()
        parts.append(f"{name}: found {found.mean():.3f} (worst {found.min():.3f}) false {false:.4f}")
        sure_hot, sure_cold = sight.heat >= HOT + UNSURE, sight.heat <= HOT - UNSURE
        parts.append(f"hot {(hot > 0)[sure_hot].float().mean():.3f} cold {(hot <= 0)[sure_cold].float().mean():.4f}")
        parts.append(f"setts {((setts > 0) == (sight.setts > 0)).float().mean():.3f}")
    return " ".join(parts)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over 5% of the steps, then a cosine to zero."""
    warm = max(1, steps // 20)

    def scale(step: int) -> float:
        return (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / (steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)


def shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Images moved by up to 2 pixels and made a little lighter or darker, so that the pool lasts longer."""
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    top, left = rng.integers(5, size=2)
    light = torch.from_numpy(rng.uniform(-0.06, 0.06, size=(len(images), 1, 1, 1))).float()
    return padded[:, :, top : top + PIXELS, left : left + PIXELS] + light
