import math

import pytest
import torch

from twinspire.model import best_head, head_imbalance, soft_dot_product


def vectors(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


def test_the_soft_dot_product_by_hand() -> None:
    """Equation 1: inner products 1 and 0.5, beta 0.5, so weights e^2 and e^1."""
    queries = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    items = torch.tensor([[1.0, 0.0]])
    expected = (math.exp(2) * 1 + math.exp(1) * 0.5) / (math.exp(2) + math.exp(1))
    assert soft_dot_product(queries, items, 0.5).item() == pytest.approx(expected)
    assert best_head(queries, items).item() == 1.0


def test_small_temperature_is_the_best_head_and_large_is_the_mean() -> None:
    queries, items = vectors(5, 3, 8), vectors(7, 8)
    products = torch.einsum("bhd,md->bhm", queries, items)
    torch.testing.assert_close(soft_dot_product(queries, items, 1e-6), best_head(queries, items))
    torch.testing.assert_close(best_head(queries, items), products.max(dim=1).values)
    torch.testing.assert_close(soft_dot_product(queries, items, 1e6), products.mean(dim=1))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_one_head_is_its_inner_product(temperature: float) -> None:
    queries, items = vectors(4, 1, 8), vectors(6, 8)
    torch.testing.assert_close(soft_dot_product(queries, items, temperature), queries[:, 0] @ items.T)
    twice = queries.repeat(1, 2, 1)
    torch.testing.assert_close(soft_dot_product(twice, items, temperature), queries[:, 0] @ items.T)


def test_it_lies_between_mean_and_best() -> None:
    queries, items = vectors(6, 4, 8), vectors(9, 8)
    soft, products = soft_dot_product(queries, items, 0.2), torch.einsum("bhd,md->bhm", queries, items)
    assert soft.shape == (6, 9)
    assert (soft <= products.amax(1) + 1e-6).all()
    assert (soft >= products.mean(1) - 1e-6).all()


def test_the_imbalance_of_heads_by_hand() -> None:
    """Two queries whose positives fall to heads 1 and 2; then, with other weights, to head 1 three times in four."""
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    positives, hard = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 1e-3
    assert head_imbalance(queries, positives, hard, torch.ones(2)).item() == pytest.approx(0, abs=1e-6)
    expected = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    found = head_imbalance(queries, positives, hard, torch.tensor([3.0, 1.0]))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_one_head_for_everything_is_the_most_uneven() -> None:
    queries, positives = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]] * 4), torch.tensor([[1.0, 0.0]] * 4)
    assert head_imbalance(queries, positives, 0.03, torch.ones(4)).item() == pytest.approx(math.log(2))
    assert head_imbalance(queries[:, :1], positives, 0.03, torch.ones(4)).item() == 0


@pytest.mark.parametrize("temperature", [1e-3, 0.03, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_step_against_the_imbalance_helps_the_lost_head(temperature: float, weight: float) -> None:
    """And its gradient is finite, for a head whose weight is nothing and for rows that weigh nothing."""
    queries = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]] * 3, requires_grad=True)
    loss = head_imbalance(queries, torch.tensor([[1.0, 0.0]] * 3), temperature, torch.full((3,), weight))
    loss.backward()
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()
    if weight and temperature > 0.01:
        assert (queries.grad[:, 1, 0] < 0).all(), "the second head is drawn to the positive"
        assert (queries.grad[:, 0, 0] > 0).all()
