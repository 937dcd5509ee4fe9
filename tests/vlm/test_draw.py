"""Sampling by each row's own random numbers, against probabilities worked out by hand."""

import pytest
import torch

from seewhy.vlm.base import Request
from seewhy.vlm.draw import DrawOne, uniforms

P = torch.tensor([[0.5, 0.3, 0.2]])


def drawn(u: float, temperature: float = 1.0, top_p: float = 1.0, probabilities: torch.Tensor = P) -> int:
    scores = DrawOne(torch.tensor([[u]], dtype=torch.float64), temperature, top_p)(
        torch.empty(1, 0), probabilities.log()
    )
    assert torch.isfinite(scores).sum() == 1
    return int(scores.argmax())


@pytest.mark.parametrize(
    ("u", "temperature", "top_p", "token"),
    [
        (0.0, 1.0, 1.0, 0),
        (0.499, 1.0, 1.0, 0),
        (0.501, 1.0, 1.0, 1),
        (0.799, 1.0, 1.0, 1),
        (0.801, 1.0, 1.0, 2),
        (1 - 2**-32, 1.0, 1.0, 2),
        # temperature 0.5 squares the probabilities: 25/38, 9/38, 4/38 = 0.658, 0.237, 0.105
        (0.65, 0.5, 1.0, 0),
        (0.67, 0.5, 1.0, 1),
        (0.89, 0.5, 1.0, 1),
        (0.90, 0.5, 1.0, 2),
        # top-p 0.7 keeps the first two: 0.625, 0.375
        (0.62, 1.0, 0.7, 0),
        (0.63, 1.0, 0.7, 1),
        (1 - 2**-32, 1.0, 0.7, 1),
    ],
)
def test_the_token_is_the_one_that_the_draw_falls_on(u, temperature, top_p, token):
    assert drawn(u, temperature, top_p) == token


@pytest.mark.parametrize("u", [0.0, 1 - 2**-32])
def test_a_token_of_no_probability_is_never_drawn(u):
    assert drawn(u, probabilities=torch.tensor([[0.0, 1.0, 0.0]])) == 1


def test_each_step_takes_the_next_draw_of_each_row():
    draw = DrawOne(torch.tensor([[0.0, 0.9], [0.6, 0.1]], dtype=torch.float64), 1.0, 1.0)
    steps = [draw(torch.empty(2, 0), P.log().expand(2, 3)).argmax(dim=1).tolist() for _ in range(2)]
    assert steps == [[0, 1], [2, 0]]  # 0.6 is past 0.5, 0.9 past 0.8


def test_draws_are_uniform_and_belong_to_seed_id_and_prompt():
    requests = [Request(str(i), (), "p") for i in range(500)]
    draws = uniforms(requests, seed=1, steps=40)
    assert draws.shape == (500, 40)
    assert 0 <= float(draws.min()) < float(draws.max()) < 1
    # 20,000 draws: the mean's standard error is 0.0020, a tenth's share has one of 0.0021
    assert abs(float(draws.mean()) - 0.5) < 0.01
    assert all(abs(float(((draws >= k / 10) & (draws < (k + 1) / 10)).double().mean()) - 0.1) < 0.01 for k in range(10))
    assert torch.equal(uniforms(requests[7:8], 1, 40)[0], draws[7])
    assert torch.equal(uniforms(requests[7:8], 1, 5)[0], draws[7, :5]), "a shorter text draws the same to its end"
    for other in (uniforms(requests[7:8], 2, 40), uniforms([Request("7", (), "q")], 1, 40), draws[8:9]):
        assert not torch.equal(other[0], draws[7])
