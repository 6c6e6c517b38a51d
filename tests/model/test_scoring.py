import math

import pytest
import torch

from twinspire.model import best_head, soft_dot_product


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
