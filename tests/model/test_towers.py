import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from twinspire.model import Architecture, Bag, Features, FeatureSlot, ModelConfig, TwoTower, to_bags
from twinspire.ragged import Ragged

D, VOCABULARY = 8, 12
QUERY = (FeatureSlot(feature="words", table="words"), FeatureSlot(feature="history.id", table="item.id"))
ITEM = (FeatureSlot(feature="words", table="words"), FeatureSlot(feature="item.id", table="item.id", dropout=0.5))


def model(seed: int = 0, *, sparse: bool = False, **config: object) -> TwoTower:
    torch.manual_seed(seed)
    towers = Architecture(
        config=ModelConfig(dim=D, hidden=6, **config),
        tables={"words": VOCABULARY, "item.id": 5},
        query=QUERY,
        item=ITEM,
    )
    return TwoTower(towers, sparse=sparse)


def features(words: list[list[int]], ids: list[list[int]], name: str) -> Features:
    return to_bags({"words": Ragged.from_rows(words), name: Ragged.from_rows(ids)})


WORDS, IDS = [[1, 2], [], [3, 3, 4]], [[], [], [2]]


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("skip", [True, False])
def test_shapes_and_unit_lengths(heads: int, skip: bool) -> None:
    towers = model(heads=heads, skip=skip)
    queries, items = towers(features(WORDS, IDS, "history.id"), features(WORDS * 2, IDS * 2, "item.id"))
    assert queries.shape == (3, heads, D)
    assert items.shape == (6, D)
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(3, heads))
    torch.testing.assert_close(items.norm(dim=-1), torch.ones(6))


def test_no_examples_at_all() -> None:
    queries, items = model(heads=2)(features([], [], "history.id"), features([], [], "item.id"))
    assert queries.shape == (0, 2, D)
    assert items.shape == (0, D)


def test_one_head_is_the_general_case_with_one_head() -> None:
    towers = model(heads=1).eval()
    tower, bags = towers.query_tower, features(WORDS, IDS, "history.id")
    vectors = [encoder(bags[name], towers.tables) for name, encoder in zip(tower.names, tower.encoders, strict=True)]
    hidden = torch.relu(tower.project(torch.cat(vectors, dim=1))).view(3, 1, -1)
    general = torch.einsum("bhf,hfd->bhd", hidden, tower.head_weight) + tower.head_bias + sum(vectors)[:, None]
    torch.testing.assert_close(towers.queries(bags), functional.normalize(general, dim=-1))


def test_a_bag_is_the_mean_of_its_rows_times_the_gain_and_an_empty_one_is_zero() -> None:
    towers = model()
    encoder, table = towers.query_tower.encoders[0], towers.tables["words"].weight
    with torch.no_grad():
        encoder.gain.fill_(2.0)
    found = encoder(to_bags({"x": Ragged.from_rows(WORDS)})["x"], towers.tables)
    torch.testing.assert_close(found[0], 2 * (table[1] + table[2]) / 2)
    torch.testing.assert_close(found[1], torch.zeros(D))
    torch.testing.assert_close(found[2], 2 * (2 * table[3] + table[4]) / 3)


def test_heads_differ_and_each_has_its_own_weights() -> None:
    towers = model(heads=2, skip=False)
    bags = features(WORDS, IDS, "history.id")
    before = towers.queries(bags).detach()
    assert not torch.allclose(before[:, 0], before[:, 1])
    with torch.no_grad():
        towers.query_tower.head_weight[1] += 1.0
    after = towers.queries(bags).detach()
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


@pytest.mark.parametrize("sparse", [True, False])
def test_gradients_are_finite_and_reach_the_shared_table_from_both_towers(sparse: bool) -> None:
    towers = model(heads=2, sparse=sparse)
    queries, items = towers(features(WORDS, IDS, "history.id"), features(WORDS, IDS, "item.id"))
    torch.einsum("bhd,md->bhm", queries, items).square().sum().backward()
    for name, parameter in towers.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.is_sparse == (sparse and name.startswith("tables")), name
        assert torch.isfinite(gradient.to_dense()).all(), name
    assert towers.tables["words"].weight.grad is not None


def test_a_features_dropout_empties_whole_bags_in_training_only() -> None:
    towers = model()
    encoder = towers.item_tower.encoders[1]
    bag = to_bags({"x": Ragged.from_rows([[1]] * 400)})["x"]
    dropped = (encoder(bag, towers.tables) == 0).all(dim=1)
    assert 120 < int(dropped.sum()) < 280
    towers.eval()
    assert not (encoder(bag, towers.tables) == 0).any()


def test_an_example_does_not_depend_on_its_batch() -> None:
    towers = model(heads=2).eval()
    together = towers.queries(features(WORDS, IDS, "history.id"))
    for i in range(len(WORDS)):
        alone = towers.queries(features(WORDS[i : i + 1], IDS[i : i + 1], "history.id"))
        torch.testing.assert_close(alone[0], together[i])


@given(st.lists(st.lists(st.integers(1, VOCABULARY - 1), max_size=5), min_size=1, max_size=6))
def test_any_bags_give_unit_vectors(words: list[list[int]]) -> None:
    towers = model(seed=3, heads=2).eval()
    queries = towers.queries(features(words, [[]] * len(words), "history.id"))
    torch.testing.assert_close(queries.norm(dim=-1), torch.ones(len(words), 2))


def test_a_saved_state_gives_the_same_vectors() -> None:
    first, second = model(seed=0, heads=2).eval(), model(seed=1, heads=2).eval()
    bags = features(WORDS, IDS, "history.id")
    assert not torch.allclose(first.queries(bags), second.queries(bags))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first.queries(bags), second.queries(bags), rtol=0, atol=0)


def test_bags_are_the_ragged_rows() -> None:
    bag = to_bags({"x": Ragged(np.array([5, 6], np.int32), np.array([0, 0, 2]))})["x"]
    assert isinstance(bag, Bag)
    assert bag.rows.dtype == torch.int64
    assert bag.rows.tolist() == [5, 6]
    assert bag.offsets.tolist() == [0, 0, 2]
