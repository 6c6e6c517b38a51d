"""Our Adagrad against torch's, on dense parameters and on tables with sparse gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from twinspire.training.adagrad import Adagrad
from twinspire.training.rows import distinct_rows


@pytest.fixture(scope="module", autouse=True)
def _sparse_tensors_are_not_checked() -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()  # torch warns where nothing is said


def model() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.EmbeddingBag(20, 4, sparse=True), nn.EmbeddingBag(3, 4, sparse=True), nn.Linear(4, 2)])


def loss(layers: nn.ModuleList, seed: int) -> torch.Tensor:
    """Duplicates in the first table; the second is empty now and then, and of the layer's output one part may be
    unused."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 20, (16,), generator=generator) // 2
    few = torch.randint(0, 3, (5 * (seed % 2),), generator=generator)
    pooled = layers[0](rows, torch.tensor([0, 5, 5])) + layers[1](few, torch.zeros(3, dtype=torch.long))
    return layers[2](pooled).square().mean()


def learn(
    layers: nn.ModuleList,
    optimiser: torch.optim.Optimizer,
    schedule: LRScheduler,
    steps: range,
) -> None:
    for step in steps:
        optimiser.zero_grad()
        loss(layers, step).backward()
        optimiser.step()
        schedule.step()


def start(
    kind: type[torch.optim.Adagrad],
) -> tuple[nn.ModuleList, torch.optim.Adagrad, LambdaLR]:
    layers = model()
    optimiser = kind(layers.parameters(), lr=0.1)
    return layers, optimiser, LambdaLR(optimiser, lambda step: 1 - step / 20)


def same(found: nn.ModuleList, expected: nn.ModuleList, **tolerance: float) -> None:
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, msg=name, **tolerance)


def test_it_learns_what_torchs_own_learns() -> None:
    ours, theirs = start(Adagrad), start(torch.optim.Adagrad)
    for parts in (ours, theirs):
        learn(*parts, range(12))
    same(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    for mine, other in zip(ours[1].state.values(), theirs[1].state.values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("before", [Adagrad, torch.optim.Adagrad])
def test_from_a_saved_state_it_goes_on_as_if_it_had_not_stopped(before: type[torch.optim.Adagrad]) -> None:
    layers, optimiser, schedule = start(before)
    learn(layers, optimiser, schedule, range(5))
    again = start(Adagrad)
    again[0].load_state_dict(copy.deepcopy(layers.state_dict()))
    again[1].load_state_dict(copy.deepcopy(optimiser.state_dict()))
    again[2].load_state_dict(schedule.state_dict())
    learn(layers, optimiser, schedule, range(5, 10))
    learn(*again, range(5, 10))
    exact = before is Adagrad
    same(again[0], layers, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)


def test_a_hook_before_the_step_runs_once() -> None:
    _, optimiser, _ = parts = start(Adagrad)
    calls = []
    optimiser.register_step_pre_hook(lambda *_: calls.append(1))
    learn(*parts, range(3))
    assert len(calls) == 3


def test_distinct_rows_are_the_coalesced_gradient() -> None:
    rows = torch.tensor([[4, 1, 4, 0, 1, 4]])
    gradient = torch.sparse_coo_tensor(rows, torch.arange(12.0).view(6, 2), (6, 2), check_invariants=False)
    found, values = distinct_rows(gradient)
    assert found.tolist() == [4, 1, 0]
    dense = torch.zeros(6, 2).index_add(0, found, values)
    torch.testing.assert_close(dense, gradient.to_dense(), rtol=0, atol=0)
