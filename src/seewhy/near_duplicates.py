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

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd: multiplying by them loses no bit
_PAIRS, _FOURS, _EIGHTS, _SUM = (np.uint64(0xFF // part * 0x0101010101010101) for part in (3, 5, 17, 255))
_FLAT = 0.25  # grey levels. Less is no step: what is flat wavers so in a lossy file, and would throw dice for its bits
_NEIGHBOURS = 256
_HELD = 4_000_000  # ties held before they are worked into the labels: 64 MB


def fingerprint(image: np.ndarray) -> bytes:
    """16 bytes for (H, W, 3) RGB or (H, W) grey, uint8: 64 bits of steps to the right, then 64 of steps down.

    Pillow's BILINEAR weighs pixels by their distance from a cell's middle when it shrinks, and its weights move with
    the size; BOX takes whole pixels only, so that copies of other sizes would have other cells.
    """
    grey = Image.fromarray(image).convert("L").convert("F")  # in whole grey levels small steps would be lost
    right = np.asarray(grey.resize((9, 8), Image.Resampling.BILINEAR))
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BILINEAR))
    bits = np.concatenate([(np.diff(right, axis=1) > _FLAT).ravel(), (np.diff(down, axis=0) > _FLAT).ravel()])
    return np.packbits(bits).tobytes()


def group_near(fingerprints: Sequence[bytes] | np.ndarray, *, most_bits: int = 3) -> np.ndarray:
    """Numbers the groups of pictures that are tied by steps of at most `most_bits` differing bits.

    Not all pairs are looked at. The bits are dealt into `most_bits` + 2 blocks; where two fingerprints differ in no
    more than `most_bits` bits, at least two blocks are equal. So each pair of blocks sorts the fingerprints once, and
    only those that come together are compared. That is (most_bits + 1)(most_bits + 2) / 2 sorts in all.

    The result is exact where no more than 256 different fingerprints share the bits of a pair of blocks. Pictures that
    look alike, as things on a white ground do, may exceed that; then each is compared with the next 256 in the order of
    its bits, so that time grows with the number of fingerprints and not with its square.

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
    labels = np.arange(len(words))
    for mask in _masks(most_bits + 2) if most_bits else []:
        labels = _tied(labels, words[:, 0], words[:, 1], mask, most_bits)
    _, first, number = np.unique(labels[which.reshape(-1)], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.reshape(-1)].astype(np.int64)


def _masks(blocks: int) -> list[tuple[np.uint64, np.uint64]]:
    """The bits of each pair of blocks, as masks of both words. Neighbouring bits, which are alike, go to different
    blocks: a white border must not make two blocks equal in half of all pictures."""
    own = [sum(1 << bit for bit in range(BITS) if bit % blocks == block) for block in range(blocks)]
    both = [a | b for a, b in itertools.combinations(own, 2)]
    return [(np.uint64(mask & (2**64 - 1)), np.uint64(mask >> 64)) for mask in both]


def _tied(
    labels: np.ndarray, low: np.ndarray, high: np.ndarray, mask: tuple[np.uint64, np.uint64], most_bits: int
) -> np.ndarray:
    """Labels with those made one whose fingerprints agree under the mask and differ in `most_bits` bits at most."""
    keys = (low & mask[0]) * _MIX[0] ^ (high & mask[1]) * _MIX[1]
    order = np.argsort(keys, kind="stable")  # the words come sorted: among equal keys in the order of their bits
    keys, low, high = keys[order], low[order], high[order]
    begin = np.arange(len(keys))
    held: list[np.ndarray] = []
    for step in range(1, _NEIGHBOURS + 1):
        begin = begin[begin + step < len(keys)]
        begin = begin[keys[begin] == keys[begin + step]]
        if not len(begin):
            break
        unlike = _ones(low[begin] ^ low[begin + step]) + _ones(high[begin] ^ high[begin + step])
        near = begin[unlike <= most_bits]
        ties = labels[np.stack([order[near], order[near + step]])]
        held.append(ties[:, ties[0] != ties[1]])
        if sum(one.shape[1] for one in held) > _HELD:
            labels, held = _folded(labels, held), []
    return _folded(labels, held)


def _folded(labels: np.ndarray, held: list[np.ndarray]) -> np.ndarray:
    """The labels once those that (2, E) ties join are one."""
    a, b = np.concatenate([np.empty((2, 0), dtype=np.int64), *held], axis=1)
    if not len(a):
        return labels
    ties = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(len(labels), len(labels)))
    return connected_components(ties, directed=False)[1].astype(np.int64)[labels]


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits of each word are set: added up in pairs, fours and bytes (H. S. Warren, Hacker's Delight, 5-1)."""
    words = words - (words >> np.uint64(1) & _PAIRS)
    words = (words & _FOURS) + (words >> np.uint64(2) & _FOURS)
    words = words + (words >> np.uint64(4)) & _EIGHTS
    return words * _SUM >> np.uint64(56)
