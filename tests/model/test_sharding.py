"""Tables in TorchRec, on one CPU process: what can be checked without GPUs. Row-wise splitting needs them."""

import importlib.util
import socket

import numpy as np
import pytest
import torch
from torch import distributed

from twinspire.errors import EnvironmentProblem
from twinspire.model import Architecture, FeatureSlot, ModelConfig, TwoTower
from twinspire.model.bags import Bag
from twinspire.model.sharding import check_torchrec

THERE = importlib.util.find_spec("torchrec") is not None
needs_torchrec = pytest.mark.skipif(not THERE, reason="TorchRec is an optional extra")
pytestmark = pytest.mark.filterwarnings("ignore")  # TorchRec's and FBGEMM's own
ARCHITECTURE = Architecture(
    config=ModelConfig(dim=8, hidden=8, heads=2),
    tables={"words": 30, "item.brand": 5},
    query=(FeatureSlot(feature="words", table="words"), FeatureSlot(feature="history.brand", table="item.brand")),
    item=(FeatureSlot(feature="words", table="words"), FeatureSlot(feature="item.brand", table="item.brand")),
)


def model():
    torch.manual_seed(0)
    return TwoTower(ARCHITECTURE, sparse=True)


def bag(rng, size, rows, *, weighted=False):
    lengths = rng.integers(0, 4, size)
    weights = np.concatenate([np.full(n, 1 / n) for n in lengths if n]).astype(np.float32) if weighted else None
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = torch.from_numpy(rng.integers(0, rows, offsets[-1]))
    return Bag(values, torch.from_numpy(offsets), None if weights is None else torch.from_numpy(weights))


def features(seed, queries=3, items=7):
    rng = np.random.default_rng(seed)
    query = {"words": bag(rng, queries, 30), "history.brand": bag(rng, queries, 5, weighted=True)}
    return query, {"words": bag(rng, items, 30), "item.brand": bag(rng, items, 5)}


@pytest.fixture
def alone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.skipif(THERE, reason="TorchRec is installed")
def test_without_the_extra_it_says_what_to_install():
    from twinspire.model.sharding import ShardableTwoTower

    with pytest.raises(EnvironmentProblem, match=r"twinspire\[gpu-sharded\]"):
        ShardableTwoTower(ARCHITECTURE, model())


def test_an_fbgemm_for_another_pytorch_is_told_in_one_line(monkeypatch):
    def no_library(_name):
        raise OSError("Could not load this library:\nfbgemm.so")

    monkeypatch.setattr("twinspire.model.sharding.import_module", no_library)
    with pytest.raises(EnvironmentProblem, match=r"fbgemm-gpu-cpu for one without .*fbgemm\.so") as caught:
        check_torchrec()
    assert "\n" not in str(caught.value)


@needs_torchrec
def test_it_computes_what_the_plain_model_does_and_gives_its_weights_back():
    from twinspire.model.sharding import ShardableTwoTower, plain_weights

    plain = model().eval()
    subject = ShardableTwoTower(ARCHITECTURE, model()).eval()
    for found, expected in zip(subject(*features(1)), plain(*features(1)), strict=True):
        torch.testing.assert_close(found, expected)
    back = model()
    torch.nn.init.zeros_(back.query_tower.head_weight)
    back.load_state_dict(plain_weights(subject))
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=0, atol=0)


@needs_torchrec
@pytest.mark.usefixtures("alone")
def test_a_sharded_model_learns_as_the_plain_one():
    from twinspire.model.sharding import ShardableTwoTower, adagrad, plain_weights, shard

    torch.sparse.check_sparse_tensor_invariants.disable()
    plain, rate = model(), 0.05
    sharded = shard(ShardableTwoTower(ARCHITECTURE, model()), rate, torch.device("cpu"), how="table_wise")
    pairs = [(plain, torch.optim.Adagrad(plain.parameters(), lr=rate)), (sharded, adagrad(sharded, rate))]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / 5) for _, optimiser in pairs]
    for step in range(4):
        for (subject, optimiser), schedule in zip(pairs, schedules, strict=True):
            optimiser.zero_grad()
            queries, items = subject(*features(step))
            torch.einsum("bhd,md->", queries, items).backward()
            optimiser.step()
            schedule.step()
    found = plain_weights(sharded)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
