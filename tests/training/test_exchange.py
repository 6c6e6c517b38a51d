"""Two processes that exchange gradients learn what one learns from both batches."""

import copy
import os
import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn

from twinspire.training.exchange import GradientExchange

WORKERS = 2


def model():
    torch.manual_seed(0)
    tables = [nn.EmbeddingBag(rows, 4, mode="mean", sparse=True) for rows in (20, 6)]
    return nn.ModuleList([*tables, nn.Linear(4, 3), nn.Linear(3, 1)])  # the last one is not used


def loss(layers, seed):
    """Both tables, the second with an empty batch on one worker."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 20, (12,), generator=generator)
    few = torch.randint(0, 6, (3 * (seed % 2),), generator=generator)
    one = layers[0](rows, torch.tensor([0, 5, 5]))
    other = layers[1](few, torch.zeros(3, dtype=torch.long))
    return layers[2](one + other).square().mean()


def work(rank, address, folder):
    torch.sparse.check_sparse_tensor_invariants.disable()
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORKERS)
    layers = model()
    optimiser = torch.optim.Adagrad(layers.parameters(), lr=0.1)
    exchange = GradientExchange(layers.parameters())
    optimiser.register_step_pre_hook(lambda *_: exchange())
    for step in range(3):
        optimiser.zero_grad()
        loss(layers, 2 * step + rank).backward()
        optimiser.step()
    torch.save(layers.state_dict(), f"{folder}/{rank}.pt")
    distributed.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that takes itself down in order


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_mean_gradient_of_both(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    multiprocessing.spawn(work, (address, str(tmp_path)), nprocs=WORKERS)
    torch.sparse.check_sparse_tensor_invariants.disable()
    layers = copy.deepcopy(model())
    optimiser = torch.optim.Adagrad(layers.parameters(), lr=0.1)
    for step in range(3):
        optimiser.zero_grad()
        sum(loss(layers, 2 * step + rank) / WORKERS for rank in range(WORKERS)).backward()
        optimiser.step()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORKERS)]
    for name, tensor in layers.state_dict().items():
        torch.testing.assert_close(found[0][name], found[1][name], rtol=0, atol=0)
        torch.testing.assert_close(found[0][name], tensor, rtol=1e-5, atol=1e-6)
