import pytest
import torch
from torch import nn

from twinspire.model import Bag
from twinspire.model.encoders import BagEncoder, make_table


def table(rows: int, *, sparse: bool) -> nn.EmbeddingBag:
    torch.manual_seed(0)
    return make_table(rows, 4, scale=1.0, sparse=sparse)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_bag_with_weights_is_their_sum(sparse: bool) -> None:
    made = table(6, sparse=sparse)
    encoder, tables = BagEncoder("t"), nn.ModuleDict({"t": made})
    encoder.gain.data.fill_(2.0)
    bag = Bag(torch.tensor([1, 3, 3, 5]), torch.tensor([0, 3, 3, 4]), torch.tensor([0.5, 0.25, 0.25, 1.0]))
    vectors = encoder(bag, tables)
    rows = made.weight.detach()
    expected = 2 * torch.stack([0.5 * rows[1] + 0.5 * rows[3], torch.zeros(4), rows[5]])
    torch.testing.assert_close(vectors.detach(), expected)
    vectors.sum().backward()
    gradient = made.weight.grad
    assert gradient is not None
    assert gradient.is_sparse == sparse
    gradient = gradient.to_dense() if sparse else gradient
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 2.0]))


def test_equal_weights_are_the_mean() -> None:
    encoder, tables = BagEncoder("t"), nn.ModuleDict({"t": table(6, sparse=False)})
    rows, offsets = torch.tensor([1, 2, 4, 5]), torch.tensor([0, 4])
    torch.testing.assert_close(
        encoder(Bag(rows, offsets, torch.full((4,), 0.25)), tables), encoder(Bag(rows, offsets), tables)
    )


def test_left_out_bags_are_left_out_whole_and_only_in_training() -> None:
    encoder, tables = BagEncoder("t", dropout=0.5), nn.ModuleDict({"t": table(6, sparse=False)})
    bag = Bag(torch.tensor([1] * 400), torch.arange(401), torch.ones(400))
    kept = (encoder(bag, tables) != 0).all(dim=1)
    assert 100 < int(kept.sum()) < 300
    assert (encoder.eval()(bag, tables) != 0).all()
