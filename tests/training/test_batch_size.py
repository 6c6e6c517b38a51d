"""A log smaller than a batch is still learned from."""

from twinspire.config import load_config
from twinspire.training.run import small_enough


def batch_size(rows, *settings):
    return small_enough(load_config(None, settings), rows).training.batch_size


def test_a_batch_is_no_larger_than_a_workers_share_of_the_rows():
    assert batch_size(1_000) == 128
    assert batch_size(128) == 128
    assert batch_size(50) == 50
    assert batch_size(50, "training.workers=3") == 16
    assert batch_size(3, "training.workers=3") == 2


def test_nothing_else_changes():
    config = load_config(None, ("model.dim=16", "training.rounds=3"))
    small = small_enough(config, 10)
    assert small.model_dump(exclude={"training": {"batch_size"}}) == config.model_dump(
        exclude={"training": {"batch_size"}}
    )
    assert small_enough(config, 1_000) is config
