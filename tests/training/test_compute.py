"""Precision and compilation of the layers behind the tables, as far as a CPU goes."""

import pytest
import torch

from twinspire.model import Architecture, FeatureSlot, ModelConfig, TwoTower
from twinspire.model.bags import Bag
from twinspire.training.compute import Compute
from twinspire.training.config import TrainingConfig

SLOTS = (FeatureSlot(feature="words", table="words"),)
ARCHITECTURE = Architecture(config=ModelConfig(dim=16, heads=2), tables={"words": 30}, query=SLOTS, item=SLOTS)


def model():
    torch.manual_seed(0)
    return TwoTower(ARCHITECTURE)


def compute(**settings):
    return Compute(model(), TrainingConfig(**settings), "cpu")


def features(size):
    rows = torch.arange(2 * size) % 30
    return {"words": Bag(rows, torch.arange(0, 2 * size + 1, 2))}


def test_on_a_cpu_auto_is_the_plain_model():
    for found, expected in zip(compute()(features(4), features(9)), model()(features(4), features(9)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_bfloat16_is_of_the_layers_only():
    subject = compute(precision="bfloat16")
    queries, items = subject(features(4), features(9))
    assert (queries.dtype, items.dtype) == (torch.float32, torch.float32)
    plain = model()(features(4), features(9))
    assert not torch.equal(queries, plain[0])
    torch.testing.assert_close(queries, plain[0], rtol=0, atol=0.02)
    torch.einsum("bhd,md->", queries, items).backward()
    for parameter in subject.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_it_computes_the_same_at_every_size():
    subject = compute(compile=True)
    for size in (4, 7, 32):
        found, expected = subject(features(size), features(9)), model()(features(size), features(9))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert set(subject.module.state_dict()) == set(model().state_dict())
