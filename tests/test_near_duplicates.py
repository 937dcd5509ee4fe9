"""Fingerprints: equal for copies, unlike for other pictures; groups equal to those of all pairs compared."""

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from seewhy import near_duplicates
from seewhy.near_duplicates import BYTES, fingerprint, group_near


def scene(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Coarse blotches, as a photograph's large shapes are."""
    rng = np.random.default_rng(seed)
    blotches = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return blotches.resize((width, height), Image.Resampling.BICUBIC)


def copies(image: Image.Image) -> list[Image.Image]:
    found = [image]
    for quality in (30, 60, 90):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        found.append(Image.open(buffer).convert("RGB"))
    found += [image.resize((160, 120)), image.resize((500, 375)), image.resize((128, 128))]
    found += [ImageEnhance.Brightness(image).enhance(0.9), image.filter(ImageFilter.GaussianBlur(1))]
    return found


def distance(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_a_fingerprint_by_hand() -> None:
    """Bright to the right in all steps, and in no step down; then the other way round."""
    rising = np.repeat(np.linspace(0, 255, 72, dtype=np.uint8)[None, :, None], 72, axis=0).repeat(3, axis=2)
    assert fingerprint(rising) == b"\xff" * 8 + b"\0" * 8
    assert fingerprint(rising.transpose(1, 0, 2).copy()) == b"\0" * 8 + b"\xff" * 8
    assert fingerprint(np.full((5, 7, 3), 90, dtype=np.uint8)) == b"\0" * 16
    wavering = np.full((72, 72, 3), 90, dtype=np.uint8)
    wavering[:, ::9] = 91  # a ninth of a grey level, as a lossy file makes of a flat surface
    assert fingerprint(wavering) == b"\0" * 16
    left_half = np.zeros((72, 72, 3), dtype=np.uint8)
    left_half[:, 36:] = 255  # of 9 columns the middle one is grey: two steps up, the fourth and the fifth
    assert fingerprint(left_half)[:8] == bytes([0b00011000] * 8)


def test_copies_are_near_and_other_pictures_are_not() -> None:
    images = [copies(scene(seed)) for seed in range(12)]
    prints = [[fingerprint(np.asarray(one)) for one in same] for same in images]
    within = max(distance(same[0], one) for same in prints for one in same)
    between = min(distance(a[0], b[0]) for i, a in enumerate(prints) for b in prints[:i])
    assert within <= 3
    assert between > 30
    numbers = group_near([one for same in prints for one in same])
    assert numbers.tolist() == np.repeat(np.arange(12), len(prints[0])).tolist()


def by_all_pairs(prints: list[bytes], most_bits: int) -> list[int]:
    group = list(range(len(prints)))
    for i, a in enumerate(prints):
        for j in range(i):
            if distance(a, prints[j]) <= most_bits:
                old, new = group[i], group[j]
                group = [new if one == old else one for one in group]
    seen: dict[int, int] = {}
    return [seen.setdefault(one, len(seen)) for one in group]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10), st.sampled_from([0, 1, 3, 4, 6]))
def test_groups_are_those_of_all_pairs(seed: int, flips: int, most_bits: int) -> None:
    rng = np.random.default_rng(seed)
    prints = [rng.bytes(BYTES)] * 2
    for _ in range(40):
        old = np.unpackbits(np.frombuffer(prints[rng.integers(len(prints))], dtype=np.uint8))
        places = rng.choice(128, size=rng.integers(flips + 1), replace=False)
        old[places] ^= 1
        prints.append(np.packbits(old).tobytes())
    assert group_near(prints, most_bits=most_bits).tolist() == by_all_pairs(prints, most_bits)


def test_a_chain_of_small_steps_is_one_group() -> None:
    bits = np.tril(np.ones((100, 128), dtype=np.uint8))
    prints = [np.packbits(one).tobytes() for one in bits[::4]]
    assert set(group_near(prints, most_bits=4).tolist()) == {0}
    assert group_near(prints, most_bits=3).tolist() == list(range(25))


def test_ties_that_come_many_at_a_time_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_HELD", 0)  # none is kept from one step to the next
    rng = np.random.default_rng(0)
    prints = [one.tobytes() for one in np.packbits(rng.integers(0, 2, (300, 12)), axis=1).repeat(8, axis=1)]
    assert group_near(prints, most_bits=8).tolist() == by_all_pairs(prints, 8)


def test_many_are_grouped_without_comparing_all() -> None:
    """200,000 unlike ones and a near copy of each hundredth: 2 * 10^10 pairs would take hours."""
    rng = np.random.default_rng(0)
    many = rng.integers(0, 256, (200_000, BYTES), dtype=np.uint8)
    near = many[::100].copy()
    near[:, 3] ^= 0b1010
    near[:, 11] ^= 0b1
    numbers = group_near([one.tobytes() for one in np.concatenate([many, near])])
    assert numbers[:200_000].tolist() == list(range(200_000))
    assert numbers[200_000:].tolist() == list(range(0, 200_000, 100))


def alike(count: int, live: np.ndarray) -> np.ndarray:
    """(N, 16) fingerprints that differ in the bits `live` alone, as pictures of things on a white ground do."""
    bits = np.zeros((count, 128), dtype=np.uint8)
    bits[:, live] = np.random.default_rng(0).integers(0, 2, (count, len(live)))
    return np.packbits(bits, axis=1, bitorder="little")


def test_look_alikes_are_grouped_as_by_all_pairs() -> None:
    """With 24 live bits some 80 share each key: more than by chance, and fewer than are looked at."""
    many = alike(20_000, np.r_[40:60, 100:104])
    rows = [one.tobytes() for one in many]
    group = dict(zip(rows, group_near(rows, most_bits=1).tolist(), strict=True))
    ties = [(one, flipped(one, bit)) for one in group for bit in range(128) if flipped(one, bit) in group]
    assert len(ties) > 500
    assert all(group[a] == group[b] for a, b in ties)
    tied = {one for tie in ties for one in tie}
    assert len(set(group.values())) >= len(group) - len(ties) // 2
    assert len({group[one] for one in group.keys() - tied}) == len(group) - len(tied)


def flipped(one: bytes, bit: int) -> bytes:
    return (int.from_bytes(one, "little") ^ 1 << bit).to_bytes(BYTES, "little")


def test_where_all_share_a_key_time_does_not_grow_with_the_square() -> None:
    """All live bits lie in one of five blocks, and the others say nothing: all pairs of 80,000 in six of ten sorts."""
    many = alike(80_000, np.arange(3, 128, 5)[:24])
    near = many[::100].copy()
    near[:, 14:] ^= np.uint8(0b1000)  # two bits that are not live
    begun = time.monotonic()
    numbers = group_near([one.tobytes() for one in np.concatenate([many, near])])
    assert time.monotonic() - begun < 60  # seconds; it takes 3
    assert (numbers[80_000:] == numbers[:80_000:100]).all()


def test_what_it_cannot_work_with() -> None:
    with pytest.raises(ValueError, match="most_bits is 17"):
        group_near([b"\0" * 16], most_bits=17)
    with pytest.raises(ValueError, match="2 fingerprints of 16 bytes cannot have 24 bytes"):
        group_near([b"\0" * 16, b"\0" * 8])
    assert group_near([]).tolist() == []
    assert group_near(np.array([b"\0" * 16, b"\1" * 16, b"\0" * 16], dtype=object), most_bits=0).tolist() == [0, 1, 0]
