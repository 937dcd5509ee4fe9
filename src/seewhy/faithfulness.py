"""Whether a map shows what the model goes by: deletion and insertion of its hottest pixels, and a head drawn anew.

Deletion and insertion (Petsiuk et al. 2018, RISE): pixels are taken away, or put in, in equal shares from the hottest
to the coldest, and the area under the output along the way is measured. Where the map is right, the output falls soon
as the hottest pixels go (a small area), and rises soon as they come (a large one). What is soon is told by maps of the
very same values in other places, which go through the same.

Head drawn anew (Adebayo et al. 2018, Sanity checks for saliency maps): a map that stays as it is when the weights that
make the outputs are replaced by random ones shows the picture, not the model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from seewhy.overlay import enlarged

Score = Callable[[torch.Tensor], torch.Tensor]
"""(B, 3, H, W) normalised pixels -> (B, K) class probabilities, or (B, 1) predictions in the target's own unit."""

BLUR = 5 / 224
"""Standard deviation of the blur that insertion starts from, as a share of the shorter side: 5 pixels of 224."""


@dataclass(frozen=True)
class Areas:
    """Areas under the explained output, (M,) each, a mean along the way: in its own unit.

    Attributes:
        deletion: the hottest pixels are replaced first by the colour that the normalisation makes 0, the mean of the
            images that the network was first trained on.
        insertion: the hottest pixels are first put into a blurred picture.
    """

    deletion: np.ndarray
    insertion: np.ndarray


@torch.no_grad()
def areas(
    score: Score, pixels: torch.Tensor, heats: np.ndarray, explained: int, *, steps: int = 16, batch_size: int = 32
) -> Areas:
    """Deletion and insertion of one picture by several maps.

    A class is followed by its probability, a number by the prediction itself: a map shows what makes it higher, so
    small deletion and large insertion are good for it too, and its areas are compared with those of random maps of the
    same picture, not with those of another.

    Args:
        score: of the model, in eval mode.
        pixels: (3, H, W) normalised.
        heats: (M, h, w), any grid and any scale: only the order of the enlarged map's pixels counts. Equally hot
            pixels go in an order that is random and always the same.
        explained: output.
        steps: equal shares of the pixels, 1 or more. The model reads 2 M (steps - 1) + 3 pictures.
        batch_size: pictures that it reads at once.
    """
    if steps < 1:
        raise ValueError(f"steps={steps!r}: 1 or more is allowed")
    height, width = pixels.shape[1:]
    ranks = torch.stack([_ranks(heat, height, width) for heat in heats]).to(pixels.device)
    grey, soft = torch.zeros_like(pixels), blurred(pixels)
    whole, gone, start = score(torch.stack([pixels, grey, soft]))[:, explained].tolist()
    ends = {"deletion": (whole, gone), "insertion": (start, whole)}
    jobs = [(side, m, step) for side in ends for m in range(len(heats)) for step in range(1, steps)]
    sums = {side: np.full(len(heats), sum(both) / 2) for side, both in ends.items()}
    for first in range(0, len(jobs), batch_size):
        some = jobs[first : first + batch_size]
        made = []
        for side, m, step in some:
            hot = ranks[m] < round(height * width * step / steps)
            made.append(torch.where(hot, grey, pixels) if side == "deletion" else torch.where(hot, pixels, soft))
        read = score(torch.stack(made).contiguous(memory_format=torch.channels_last))
        for (side, m, _), output in zip(some, read[:, explained].tolist(), strict=True):
            sums[side][m] += output
    return Areas(sums["deletion"] / steps, sums["insertion"] / steps)


def _ranks(heat: np.ndarray, height: int, width: int) -> torch.Tensor:
    """(H, W), 0 for the hottest pixel."""
    large = enlarged(heat, height, width).ravel()
    order = np.random.default_rng(0).permutation(large.size)
    order = order[np.argsort(-large[order], kind="stable")]
    ranks = np.empty(large.size, dtype=np.int64)
    ranks[order] = np.arange(large.size)
    return torch.from_numpy(ranks.reshape(height, width))


def blurred(pixels: torch.Tensor) -> torch.Tensor:
    """(3, H, W) by a Gaussian of `BLUR`, mirrored at the edges."""
    shorter = min(pixels.shape[1:])
    sigma = BLUR * shorter
    radius = min(math.ceil(3 * sigma), shorter - 1)
    places = torch.arange(-radius, radius + 1, dtype=pixels.dtype, device=pixels.device)
    bell = torch.exp(-(places**2) / (2 * sigma**2))
    bell = (bell / bell.sum()).expand(3, 1, 1, -1)
    padded = nn.functional.pad(pixels[None], [radius] * 4, mode="reflect")
    across = nn.functional.conv2d(padded, bell, groups=3)
    return nn.functional.conv2d(across, bell.transpose(2, 3), groups=3)[0]


@contextmanager
def drawn_anew(weights: Sequence[torch.Tensor], seed: int) -> Iterator[None]:
    """While it lasts, the weights are random, of the standard deviation that they have.

    Args:
        weights: of two dimensions or more; what a bias adds changes no gradient.
    """
    kept = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    try:
        for weight, old in zip(weights, kept, strict=True):
            spread = old.float().std(correction=0).item() or old[0].numel() ** -0.5
            weight.data.copy_(torch.randn(old.shape, generator=generator) * spread)
        yield
    finally:
        for weight, old in zip(weights, kept, strict=True):
            weight.data.copy_(old)


def rank_correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman's, (B, h, w) and (B, h, w) -> (B,); NaN where either map is the same everywhere."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (left, right)]
    a, b = (each - each.mean(axis=1, keepdims=True) for each in ranks)
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), spread, out=np.full(len(left), np.nan), where=spread > 0)
