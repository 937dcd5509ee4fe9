"""Areas worked out by hand, by a plain loop over a real model, and the laws of heads drawn anew."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from seewhy.faithfulness import BLUR, areas, blurred, drawn_anew, rank_correlations
from seewhy.overlay import enlarged
from tests.cam_models import network

# 4 x 4 pixels, so few that their blur is the picture itself; four are bright, by 1/4 each of what the score adds up
BRIGHT = torch.zeros(3, 4, 4)
BRIGHT[:, 1:3, 1:3] = 1
ORDER = np.arange(16, 0, -1, dtype=float).reshape(4, 4)
FIRST = ORDER + 100 * BRIGHT[0].numpy()  # the bright ones are the hottest
LAST = ORDER - 100 * BRIGHT[0].numpy()


def brightness(pixels: torch.Tensor) -> torch.Tensor:
    """Output 1 is the sum of the bright places; output 0 never changes."""
    total = pixels[:, 0].sum(dim=(1, 2)) / 4
    return torch.stack([torch.full_like(total, 0.3), total], dim=1)


def test_deletion_by_hand():
    found = areas(brightness, BRIGHT, np.stack([FIRST, LAST]), 1, steps=16)
    # 1, 3/4, 1/2, 1/4, 0, 0, ...: half of the first, then the rest, of 16 steps
    hottest_first = (0.5 + 0.75 + 0.5 + 0.25) / 16
    # 1 twelve times, then 3/4, 1/2, 1/4, 0
    hottest_last = (0.5 + 12 + 0.75 + 0.5 + 0.25) / 16
    np.testing.assert_allclose(found.deletion, [hottest_first, hottest_last], rtol=1e-6)
    quarters = areas(brightness, BRIGHT, np.stack([FIRST, LAST]), 1, steps=4)
    np.testing.assert_allclose(quarters.deletion, [0.5 / 4, (0.5 + 3) / 4], rtol=1e-6)
    assert areas(brightness, BRIGHT, FIRST[None], 1, steps=1).deletion == pytest.approx(0.5)
    np.testing.assert_allclose(areas(brightness, BRIGHT, FIRST[None], 0).deletion, 0.3, rtol=1e-6)


def test_insertion_by_hand():
    # stripes of one pixel are blurred away, to the mean of a half; the score knows the left half alone
    pixels = torch.zeros(3, 224, 224)
    pixels[:, :, ::2] = 1

    def left_bright(some: torch.Tensor) -> torch.Tensor:
        return some[:, :1, :, :112:2].mean(dim=(2, 3))

    left = np.array([[1.0, 0.0]]).repeat(112, axis=1).repeat(224, axis=0)
    found = areas(left_bright, pixels, np.stack([left, -left]), 0, steps=4)
    # 1/2 at the start; the left half is in after two of four steps, or comes in the last two
    np.testing.assert_allclose(found.insertion[0], (0.25 + 0.75 + 1 + 1 + 0.5) / 4, atol=0.01)
    np.testing.assert_allclose(found.insertion[1], (0.25 + 0.5 + 0.5 + 0.75 + 0.5) / 4, atol=0.01)


@pytest.mark.parametrize("shape", [(224, 224), (100, 260), (96, 64), (5, 9), (1, 1)])
def test_the_blur_is_a_gaussian_in_proportion_to_the_shorter_side(shape):
    pixels = torch.randn(3, *shape)
    sigma = BLUR * min(shape)
    expected = [gaussian_filter(channel.double().numpy(), sigma, mode="mirror", truncate=3) for channel in pixels]
    np.testing.assert_allclose(blurred(pixels), expected, atol=0.03)
    assert BLUR * 224 == 5
    torch.testing.assert_close(blurred(torch.full((3, *shape), 0.7)), torch.full((3, *shape), 0.7))


def slow_areas(score, pixels, heat, output, steps):
    """One picture after the other, without sharing any."""
    height, width = pixels.shape[1:]
    large = enlarged(heat, height, width).ravel()
    hottest = np.argsort(-large, kind="stable")
    found = {}
    for name, under, over in (("deletion", pixels, torch.zeros_like(pixels)), ("insertion", blurred(pixels), pixels)):
        outputs = []
        for step in range(steps + 1):
            made = under.clone().reshape(3, -1)
            some = hottest[: round(height * width * step / steps)].copy()
            made[:, some] = over.reshape(3, -1)[:, some]
            outputs.append(score(made.reshape(1, 3, height, width))[0, output].item())
        found[name] = np.trapezoid(outputs) / steps
    return found


def test_areas_of_a_real_model_as_the_slow_way_has_them_in_any_batches():
    model = network("resnet")

    def score(pixels: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return (model(pixels).logits / 40).softmax(dim=1)

    torch.manual_seed(2)
    pixels = torch.randn(3, 48, 64)
    heats = np.random.default_rng(0).random((3, 48, 64)).astype(np.float32)  # no two alike
    found = areas(score, pixels, heats, 2, steps=5, batch_size=7)
    for i in range(3):
        with torch.no_grad():
            expected = slow_areas(score, pixels, heats[i], 2, 5)
        assert found.deletion[i] == pytest.approx(expected["deletion"], abs=1e-5)
        assert found.insertion[i] == pytest.approx(expected["insertion"], abs=1e-5)
    assert np.ptp(found.deletion) > 1e-3
    for batch_size in (1, 100):
        again = areas(score, pixels, heats, 2, steps=5, batch_size=batch_size)
        np.testing.assert_allclose(again.deletion, found.deletion, atol=1e-5)
        np.testing.assert_allclose(again.insertion, found.insertion, atol=1e-5)


def test_no_picture_is_read_twice():
    read = []

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        read.append(len(pixels))
        return brightness(pixels)

    areas(counting, BRIGHT, np.stack([FIRST, LAST, ORDER]), 1, steps=8, batch_size=10)
    assert sum(read) == 2 * 3 * 7 + 3
    assert max(read) == 10


def test_equally_hot_pixels_go_in_no_order_of_rows():
    pixels = torch.zeros(3, 20, 20)
    pixels[:, :10] = 1  # the upper half

    def upper(some: torch.Tensor) -> torch.Tensor:
        return some[:, :1, :10].mean(dim=(2, 3))

    flat = areas(upper, pixels, np.ones((1, 5, 5)), 0, steps=10).deletion
    assert flat == pytest.approx(0.5, abs=0.05)  # row by row it would be 0.25
    assert flat == areas(upper, pixels, np.ones((1, 5, 5)), 0, steps=10).deletion


def test_steps_out_of_range_are_named():
    with pytest.raises(ValueError, match="steps=0"):
        areas(brightness, BRIGHT, FIRST[None], 1, steps=0)


# heads drawn anew


def test_a_drawn_head_is_random_by_its_seed_and_gone_afterwards():
    model = network("vit", classes=300)
    head = model.classifier
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = []
    for seed in (0, 1, 0):
        with drawn_anew([head.weight], seed):
            drawn.append(head.weight.detach().clone())
            assert torch.equal(head.bias, before["classifier.bias"])
    assert torch.equal(drawn[0], drawn[2])
    assert abs(np.corrcoef(drawn[0].flatten(), drawn[1].flatten())[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn[0].flatten(), before["classifier.weight"].flatten())[0, 1]) < 0.05
    assert drawn[0].std().item() == pytest.approx(before["classifier.weight"].std().item(), rel=0.05)
    with pytest.raises(RuntimeError, match="stop"), drawn_anew([head.weight], 3):
        raise RuntimeError("stop")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_head_of_equal_weights_is_drawn_too():
    head = nn.Linear(16, 2)
    nn.init.zeros_(head.weight)
    with drawn_anew([head.weight], 0):
        assert 0.1 < head.weight.std().item() < 0.5  # 1/4 for 16 inputs
    assert head.weight.abs().max() == 0


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(0)
    left, right = rng.random((4, 5, 6)), rng.integers(0, 3, (4, 5, 6))
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(rank_correlations(left, right), expected)
    # 1 2 3 4 against 1 2 4 3: one less 6 * 2 / (4 * 15)
    by_hand = rank_correlations(np.array([[[1, 20], [30, 40]]]), np.array([[[0.1, 0.2], [9, 0.3]]]))
    assert by_hand.tolist() == [pytest.approx(0.8)]
    assert rank_correlations(left, np.exp(left)).tolist() == [pytest.approx(1)] * 4
    found = rank_correlations(left, np.concatenate([np.ones((1, 5, 6)), -left[1:]]))
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], -1)
