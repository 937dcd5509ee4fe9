"""Pictures that are the same to the eye though their bytes differ: resized, encoded anew, a little brighter.

The fingerprint is a difference hash (N. Krawetz, "Kind of Like That", hackerfactor.com, 2013) in both directions:
whether each of 8 x 8 steps to the right, and each of 8 x 8 steps down, makes a small grey copy brighter. Steps to the
right alone take many a sunset for another one; a picture without any contrast has a fingerprint of zeros.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 128
BYTES = BITS // 8

_ONES = np.array([one.bit_count() for one in range(256)], dtype=np.uint8)
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd: multiplying by them loses no bit


def fingerprint(image: np.ndarray) -> bytes:
    """16 bytes for (H, W, 3) RGB or (H, W) grey, uint8: 64 bits of steps to the right, then 64 of steps down."""
    grey = Image.fromarray(image).convert("L")
    box = Image.Resampling.BOX
    right = np.asarray(grey.resize((9, 8), box)).astype(np.int16)
    down = np.asarray(grey.resize((8, 9), box)).astype(np.int16)
    bits = np.concatenate([(np.diff(right, axis=1) > 0).ravel(), (np.diff(down, axis=0) > 0).ravel()])
    return np.packbits(bits).tobytes()


def group_near(fingerprints: Sequence[bytes] | np.ndarray, *, most_bits: int = 4) -> np.ndarray:
    """Numbers the groups of pictures that are tied by steps of at most `most_bits` differing bits.

    Not all pairs are looked at. The bits are dealt into `most_bits` + 2 blocks; where two fingerprints differ in no
    more than `most_bits` bits, at least two blocks are equal. So each pair of blocks sorts the fingerprints once, and
    only those that come together are compared: the result is exact.
    That is (most_bits + 1)(most_bits + 2) / 2 sorts in all.

    Returns:
        (N,) int64, counted in order of first appearance.

    Raises:
        ValueError: `most_bits` is not from 0 to 16, or a fingerprint has not 16 bytes.
    """
    if not 0 <= most_bits <= 16:
        raise ValueError(f"most_bits is {most_bits}; allowed are 0 to 16 of {BITS}")
    joined = b"".join(fingerprints)
    if len(joined) != BYTES * len(fingerprints):
        raise ValueError(f"{len(fingerprints)} fingerprints of {BYTES} bytes cannot have {len(joined)} bytes in all")
    words, which = np.unique(np.frombuffer(joined, dtype="<u8").reshape(-1, 2), axis=0, return_inverse=True)
    which = which.reshape(-1)
    if most_bits:
        edges = [_near(words, mask, most_bits) for mask in _masks(most_bits + 2)]
        a, b = np.concatenate(edges, axis=1)
        ties = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(len(words), len(words)))
        which = connected_components(ties, directed=False)[1][which]
    _, first, number = np.unique(which, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.reshape(-1)].astype(np.int64)


def _masks(blocks: int) -> list[tuple[np.uint64, np.uint64]]:
    """The bits of each pair of blocks, as masks of both words. Neighbouring bits, which are alike, go to different
    blocks: a white border must not make two blocks equal in half of all pictures."""
    own = [sum(1 << bit for bit in range(BITS) if bit % blocks == block) for block in range(blocks)]
    both = [a | b for a, b in itertools.combinations(own, 2)]
    return [(np.uint64(mask & (2**64 - 1)), np.uint64(mask >> 64)) for mask in both]


def _near(words: np.ndarray, mask: tuple[np.uint64, np.uint64], most_bits: int) -> np.ndarray:
    """(2, E) pairs that agree under the mask and differ in `most_bits` bits at most."""
    keys = (words[:, 0] & mask[0]) * _MIX[0] ^ (words[:, 1] & mask[1]) * _MIX[1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found = [np.empty((2, 0), dtype=np.int64)]
    begin = np.arange(len(keys))
    for step in range(1, len(keys)):
        begin = begin[begin + step < len(keys)]
        begin = begin[keys[begin] == keys[begin + step]]
        if not len(begin):
            break
        a, b = order[begin], order[begin + step]
        unlike = _ONES[(words[a] ^ words[b]).view(np.uint8)].reshape(-1, BYTES).sum(axis=1)
        near = unlike <= most_bits
        found.append(np.stack([a[near], b[near]]))
    return np.concatenate(found, axis=1)
