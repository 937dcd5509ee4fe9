"""Sampling in which every row brings its own random numbers.

A row's text then depends on the seed, its id and its prompt, and neither on the rows beside it nor on the state of any
global generator, which is left alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from seewhy.vlm.base import Request


def uniforms(requests: Sequence[Request], seed: int, steps: int) -> torch.Tensor:
    """(rows, steps) float64 draws from [0, 1), multiples of 2**-32: row i from `seed` and request i alone."""
    rows = []
    for request in requests:
        draw = np.random.Generator(np.random.Philox(key=row_key(request, seed)))
        rows.append(draw.integers(2**32, size=steps) / 2**32)
    return torch.from_numpy(np.stack(rows))


def row_key(request: Request, seed: int) -> int:
    """64 bits that seed the draws of one row: from `seed`, its id and its prompt alone."""
    return xxhash.xxh3_64_intdigest(f"{seed}\0{request.id}\0{request.prompt}".encode("utf-8", "replace"))


class DrawOne(LogitsProcessor):
    """Leaves one token possible in each row: the one that the row's next draw falls on.

    Inverse transform sampling: with p the probabilities after temperature and top-p, the token is the first i with
    p_0 + ... + p_i > u. Meant for ``generate(do_sample=False)``, which then takes that token.

    Args:
        draws: (rows, steps) from ``uniforms``; one instance serves one call of ``generate``.
        temperature: above 0.
        top_p: in (0, 1].
    """

    def __init__(self, draws: torch.Tensor, temperature: float, top_p: float) -> None:
        self._draws = draws
        self._step = 0
        self._warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(temperature))]
        if top_p < 1:
            self._warpers.append(TopPLogitsWarper(top_p))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) -> the same shape: 0 at the token drawn, minus infinity elsewhere."""
        for warp in self._warpers:
            scores = warp(input_ids, scores)
        cumulative = torch.softmax(scores.double(), dim=-1).cumsum(dim=-1)
        draw = self._draws[:, self._step, None].to(scores.device)
        self._step += 1
        token = torch.searchsorted(cumulative, draw * cumulative[:, -1:], right=True)
        return torch.full_like(scores, float("-inf")).scatter_(1, token, 0.0)
