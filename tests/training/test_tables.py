"""Two processes that hold a share of the tables each learn what they learn with whole ones."""

import importlib.util
import os
import socket

import numpy as np
import polars as pl
import pytest
import torch
from torch import distributed, multiprocessing

from twinspire import dataset
from twinspire.config import load_config
from twinspire.features.encode import Encoded, encode
from twinspire.training.batches import shuffled_with_negatives, split
from twinspire.training.build import architecture, new_model
from twinspire.training.checkpoints import Checkpoints, Progress, read_state
from twinspire.training.learner import Learner
from twinspire.training.tables import AGREE_EVERY, hold
from twinspire.training.validation import validate

THERE = importlib.util.find_spec("torchrec") is not None
pytestmark = [
    pytest.mark.skipif(not THERE, reason="TorchRec is an optional extra: twinspire[gpu-sharded]"),
    pytest.mark.filterwarnings("ignore"),  # TorchRec's and FBGEMM's own
]
WORKERS, STEPS, HALF = 2, 8, 3
SIZES = (32, 20)  # a batch of each worker: they need not be equal


@pytest.fixture(scope="module")
def encoded_folder(tiny_dataset, tmp_path_factory):
    config, folder = load_config(None, ()), tmp_path_factory.mktemp("tables") / "encoded"
    source = dataset.read(tiny_dataset, require_interactions=True)
    encode(source, config.features, config.log, config.text, folder, config.training.seed)
    return folder


class Part:
    """What one of the processes does."""

    def __init__(self, rank, folder, how, *settings):
        chosen = ("model.dim=8", "model.hidden=8", "model.heads=2", "negatives.count=64", f"training.tables={how}")
        self.config = load_config(None, (*chosen, f"training.workers={WORKERS}", *settings))
        self.rank, self.encoded = rank, Encoded.open(folder)

    def tables(self):
        """The tables at their start."""
        config, encoded = self.config, self.encoded
        model = new_model(encoded.dictionaries, config.model, seed=0, sparse=True)
        towers = architecture(encoded.dictionaries, config.model)

        def learn(model, **more):
            return Learner(model, encoded.store, encoded.clicks("all"), config, STEPS, **more)

        return hold(model, towers, config.training, "cpu", learn)

    def learn(self, tables, first, last):
        """Steps `first` to `last`; gives their losses."""
        frame, size = pl.read_parquet(self.encoded.folder / "rows" / "all" / "*.parquet"), SIZES[self.rank]
        rows = {name: frame[name].to_numpy() for name in frame.columns}
        rng = np.random.default_rng(self.rank)
        dealt = shuffled_with_negatives(rows, self.config.negatives, size, self.encoded.store.n_items, rng)
        losses = []
        for step, batch in list(enumerate(split(dealt, size)))[first:last]:
            torch.manual_seed(step)  # of dropout
            losses.append(float(tables.learner.step(batch)))
        return losses

    def validate(self, tables):
        """The MRR of the model as a whole, which is rank 0's to tell."""
        model = tables.whole()
        return None if model is None else validate(model, self.encoded.store, self.encoded.validation, 0).mrr


def work(rank, address, do, folder, scratch):
    torch.set_num_threads(1)
    torch.sparse.check_sparse_tensor_invariants.disable()
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORKERS)
    torch.save(do(rank, folder, scratch), scratch / f"{rank}.pt")
    distributed.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that takes itself down in order


@pytest.fixture
def together(encoded_folder, tmp_path):
    """Run a function in two processes; gives what each returns."""

    def run(do):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        multiprocessing.spawn(work, (address, do, encoded_folder, tmp_path), nprocs=WORKERS)
        return [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORKERS)]

    return run


def learn_both_ways(rank, folder, _scratch):
    found = {}
    for how in ("whole", "sharded"):
        part = Part(rank, folder, how)
        tables = part.tables()
        found[how] = {"losses": part.learn(tables, 0, STEPS), "mrr": part.validate(tables), "weights": tables.weights()}
    return found


def test_shares_learn_what_whole_tables_do(together):
    """By the mean gradient, at the scheduled rate: neither a sum nor a rate that lags would end at the same rows."""
    for rank, found in enumerate(together(learn_both_ways)):
        whole, sharded = found["whole"], found["sharded"]
        assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-4)
        if rank == 0:
            assert sharded["mrr"] == pytest.approx(whole["mrr"], rel=1e-3)
            assert sharded["weights"].keys() == whole["weights"].keys()
            for name, tensor in whole["weights"].items():
                torch.testing.assert_close(sharded["weights"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def learn_with_a_pause(rank, folder, scratch):
    part, checkpoints = Part(rank, folder, "sharded"), Checkpoints(scratch / "checkpoints")
    tables = part.tables()
    part.learn(tables, 0, HALF)
    state = tables.state()
    if rank == 0:
        checkpoints.own("us")
        checkpoints.save("us", Progress(), state)
    undisturbed = part.learn(tables, HALF, STEPS), tables.weights()
    again = part.tables()
    again.load(read_state(checkpoints.newest()))
    return undisturbed, (part.learn(again, HALF, STEPS), again.weights())


def test_they_go_on_from_a_checkpoint_as_if_nothing_had_been(together):
    for (losses, weights), (losses_again, weights_again) in together(learn_with_a_pause):
        assert losses_again == losses
        for name, tensor in weights.items():
            torch.testing.assert_close(weights_again[name], tensor, rtol=0, atol=0, msg=name)


def ask(rank, folder, _scratch):
    tables = Part(rank, folder, "sharded").tables()
    return [tables.agree(rank == 0, step) for step in range(2 * AGREE_EVERY)]


def test_all_agree_with_rank_0_when_a_checkpoint_is_due(together):
    first, second = together(ask)
    assert first == second
    assert sum(first) == 2
