import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from twinspire.model import hinge_loss, log_expected_count, negative_mask, softmax_loss
from twinspire.training.batches import candidates, shuffled_with_negatives
from twinspire.training.config import NegativeConfig

ONES = torch.ones


def test_hinge_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.85, 0.2], [0.3, 0.5, 0.45]])
    negatives = torch.tensor([[False, True, True], [True, False, False]])
    # Row 0: max(0, 0.1 - 0.9 + 0.85) = 0.05 and max(0, 0.1 - 0.9 + 0.2) = 0; row 1: max(0, 0.1 - 0.5 + 0.3) = 0.
    assert hinge_loss(scores, negatives, ONES(2), 0.1).item() == pytest.approx(0.05 / 2, abs=1e-6)
    assert hinge_loss(scores, negatives, torch.tensor([3.0, 1.0]), 0.1).item() == pytest.approx(0.15 / 4, abs=1e-6)
    # Margin 0.5: row 0 has 0.45 and 0, row 1 has 0.3.
    assert hinge_loss(scores, negatives, ONES(2), 0.5).item() == pytest.approx((0.45 + 0.3) / 2, abs=1e-6)


def test_softmax_without_correction_is_cross_entropy() -> None:
    torch.manual_seed(0)
    scores = torch.randn(4, 9)
    negatives = ~torch.eye(4, 9, dtype=torch.bool)
    loss = softmax_loss(scores, negatives, ONES(4), 0.05)
    torch.testing.assert_close(loss, functional.cross_entropy(scores / 0.05, torch.arange(4)))


def test_softmax_leaves_out_what_is_no_negative_and_weighs_rows() -> None:
    scores = torch.tensor([[1.0, 2.0, 50.0], [0.0, 1.0, 3.0]])
    negatives = torch.tensor([[False, True, False], [False, False, True]])
    first, second = math.log1p(math.exp(1)), math.log1p(math.exp(2))
    loss = softmax_loss(scores, negatives, torch.tensor([1.0, 3.0]), 1.0)
    assert loss.item() == pytest.approx((first + 3 * second) / 4)


@pytest.mark.parametrize("loss", ["softmax", "hinge"])
def test_a_batch_without_weight_or_without_negatives_is_harmless(loss: str) -> None:
    for weight, negatives in ((torch.zeros(2), torch.ones(2, 3, dtype=torch.bool)), (ONES(2), torch.zeros(2, 3) > 1)):
        scores = torch.randn(2, 3, requires_grad=True)
        if loss == "softmax":
            value = softmax_loss(scores, negatives, weight, 0.1)
        else:
            value = hinge_loss(scores, negatives, weight, 0.1)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()


def test_the_mask_by_hand() -> None:
    """Four rows, of queries 7 7 8 9 and items 1 2 1 4, then candidates 2, 1, 5; two of the batch for each."""
    queries, items = torch.tensor([7, 7, 8, 9]), torch.tensor([1, 2, 1, 4, 2, 1, 5])
    expected = [
        [0, 0, 0, 0, 0, 0, 1],  # both 1 and 2 are positives of query 7, wherever they come from
        [0, 0, 0, 1, 0, 0, 1],  # rows 2 and 3 follow; row 2's item 1 is a positive of 7
        [0, 0, 0, 1, 1, 0, 1],  # rows 3 and 0 follow; row 0's item 1 is its own
        [1, 1, 0, 0, 1, 1, 1],  # rows 0 and 1 follow, cyclically
    ]
    assert negative_mask(queries, items, 2).int().tolist() == expected
    everyone = negative_mask(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3, 9]), 99)
    assert everyone.int().tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]]
    assert negative_mask(torch.tensor([1, 2]), torch.tensor([1, 2]), 0).sum() == 0


def test_the_mask_of_labelled_candidates_by_hand() -> None:
    """Rows of queries 7 7 8 with items 1 2 3, a random 9, then labels: 5 for 7, 2 for 7, 1 for 8, 5 for 8."""
    queries, items = torch.tensor([7, 7, 8]), torch.tensor([1, 2, 3, 9, 5, 2, 1, 5])
    concerned = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]).bool()
    expected = [
        [0, 0, 1, 1, 1, 0, 0, 0],  # 2 is a click of query 7 in this batch: no negative, whatever the label says
        [0, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 1, 1],
    ]
    assert negative_mask(queries, items, 2, concerned).int().tolist() == expected
    none = torch.zeros(3, 0, dtype=torch.bool)
    plain = negative_mask(queries, items[:4], 2)
    assert negative_mask(queries, items[:4], 2, none).tolist() == plain.tolist()


@given(st.integers(2, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32))
def test_each_query_has_count_negatives_whatever_the_batch_size(size: int, count: int, alpha: float, seed: int) -> None:
    """Less the accidental positives, counted here pair by pair."""
    config, rng = NegativeConfig(count=count, alpha=alpha), np.random.default_rng(seed)
    rows = {"item": rng.integers(0, 30, 3 * size).astype(np.int32), "query": rng.integers(0, 8, 3 * size)}
    columns = shuffled_with_negatives(rows, config, size, 30, rng)
    batch = {name: values[:size] for name, values in columns.items()}
    items = candidates(batch, config).items
    mask = negative_mask(torch.from_numpy(batch["query"]), torch.from_numpy(items), config.batch)
    for b in range(size):
        own = {int(i) for i, q in zip(batch["item"], batch["query"], strict=True) if q == batch["query"][b]}
        following = [(b + step) % size for step in range(1, min(config.batch, size - 1) + 1)]
        met = [*following, *range(size, len(items))]
        assert len(met) == count
        assert mask[b].nonzero().flatten().tolist() == sorted(c for c in met if int(items[c]) not in own)


def test_log_expected_count_by_hand() -> None:
    share = torch.tensor([0.5, 0.01, 0.0, 0.01])
    sizes = {"batch": 10, "random": 30, "items": 100, "positives": 3}
    mixture = log_expected_count(share, **sizes, correction="mixture")
    torch.testing.assert_close(mixture, torch.tensor([5.3, 0.4, 0.3, 0.4]).log(), atol=1e-3, rtol=0)
    source = log_expected_count(share, **sizes, correction="source")
    torch.testing.assert_close(source[[0, 1, 3]], torch.tensor([20.0, 0.4, 0.4]).log())
    only_batch = log_expected_count(share, **sizes | {"random": 0}, correction="mixture")
    assert torch.isfinite(only_batch).all()
    assert torch.isfinite(source).all()


ITEMS, KINDS = 30, 4


def market() -> tuple[np.ndarray, np.ndarray]:
    """log p(item | query kind), (KINDS, ITEMS), and the items' share of clicks: popularity spans two orders."""
    rng = np.random.default_rng(1)
    logits = 1.5 * np.log(1 / np.arange(1, ITEMS + 1)) + rng.normal(0, 0.7, (KINDS, ITEMS))
    truth = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return truth, np.exp(truth).mean(0)


def learn(
    correction: str, alpha: float, steps: int = 500, size: int = 128, labelled: tuple[int, int] | None = None
) -> np.ndarray:
    """Free scores for each kind of query, learnt from draws of the market by the loss as the learner calls it.

    `labelled` is a kind and an item that is a labelled negative of it in every batch.
    """
    truth, share = market()
    rng, config = np.random.default_rng(2), NegativeConfig(count=64, alpha=alpha)
    torch.manual_seed(0)
    table = torch.zeros(KINDS, ITEMS, requires_grad=True)
    optimiser = torch.optim.Adam([table], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    drawn = size * steps
    kind = rng.integers(0, KINDS, drawn)
    # Gumbel: an item of each row's kind with probability p(item | kind).
    item = np.concatenate(
        [(truth[part] + rng.gumbel(size=(len(part), ITEMS))).argmax(1) for part in np.array_split(kind, 8)]
    )
    rows = {"item": item.astype(np.int32), "query": np.arange(drawn), "kind": kind}
    columns = shuffled_with_negatives(rows, config, size, ITEMS, rng)
    for start in range(0, drawn, size):
        batch = {name: values[start : start + size] for name, values in columns.items()}
        ids, positives, _ = candidates(batch, config)
        kinds, concerned, drawn_ids = torch.from_numpy(batch["kind"]), torch.zeros(size, 0, dtype=torch.bool), ids
        if labelled is not None:
            ids, concerned = np.append(ids, np.int32(labelled[1])), (kinds == labelled[0])[:, None]
        scores = table[kinds][:, torch.from_numpy(ids).long()]
        mask = negative_mask(torch.from_numpy(batch["query"]), torch.from_numpy(ids), config.batch, concerned)
        sizes = {"batch": config.batch, "random": config.random, "items": ITEMS, "positives": positives}
        ratio = torch.from_numpy(share).float()[torch.from_numpy(drawn_ids).long()]
        log_q = None if correction == "none" else log_expected_count(ratio, **sizes, correction=correction)
        optimiser.zero_grad()
        softmax_loss(scores, mask, torch.ones(size), 1.0, log_q).backward()
        optimiser.step()
        schedule.step()
    learnt = table.detach().numpy()
    return learnt - np.log(np.exp(learnt).sum(1, keepdims=True))


def slope(learnt: np.ndarray) -> float:
    """Of learnt on true log probabilities, popular and rare items alike: 1 where popularity is learnt in full."""
    truth, _ = market()
    return float(np.polyfit(truth.ravel(), learnt.ravel(), 1, w=np.exp(truth.ravel() / 2))[0])


@pytest.mark.parametrize("correction", ["mixture", "source"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_with_correction_scores_become_log_p_of_item_given_query(correction: str, alpha: float) -> None:
    """The sign of log Q: subtracted, the sampler's taste for popular items is taken out of the scores."""
    learnt, (truth, _) = learn(correction, alpha), market()
    assert slope(learnt) == pytest.approx(1.0, abs=0.1)
    error = np.abs(np.exp(learnt) - np.exp(truth)).sum(1) / 2
    assert error.max() < 0.06


def test_a_labelled_negative_falls_for_its_query_and_distorts_nothing_else() -> None:
    """Other queries are learnt as without it, and so are the other items of its own query among themselves."""
    learnt, (truth, _) = np.exp(learn("mixture", 0.5, labelled=(0, 3))), market()
    true = np.exp(truth)
    assert learnt[0, 3] < 0.7 * true[0, 3]
    others = np.delete(np.arange(ITEMS), 3)
    for found, expected in ((learnt[1:], true[1:]), (learnt[:1, others], true[:1, others])):
        shares = [part / part.sum(1, keepdims=True) for part in (found, expected)]
        assert (np.abs(shares[0] - shares[1]).sum(1) / 2).max() < 0.06


def test_without_correction_popularity_is_unlearnt() -> None:
    assert slope(learn("none", 0.0)) < 0.6


def test_each_negative_counts_by_how_often_it_is_drawn_and_the_positive_once() -> None:
    """One query, its positive expected 2 times and a negative drawn 4 times where 4 were expected: both count once."""
    log_q = torch.tensor([2.0, 4.0, 4.0, 4.0, 4.0]).log()
    scores = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]])
    negatives = torch.tensor([[False, True, True, True, True]])
    own = math.exp(1.0) / (1 - math.exp(-2.0))
    loss = softmax_loss(scores, negatives, ONES(1), 1.0, log_q)
    assert loss.item() == pytest.approx(-math.log(own / (own + math.exp(0.5))), abs=1e-6)


def test_a_labelled_candidate_has_the_correction_of_the_rows_own_positive() -> None:
    """Two rows, a random item and a labelled one of the first row; nothing in it depends on how often it is drawn."""
    scores = torch.tensor([[1.0, 0.5, 0.3, 0.8], [0.2, 0.6, 0.1, 0.9]])
    negatives = torch.tensor([[False, False, True, True], [False, False, True, False]])
    log_q = torch.tensor([2.0, 4.0, 4.0]).log()
    drawn = [1 - math.exp(-2.0), 1 - math.exp(-4.0)]
    first = [math.exp(1.0) / drawn[0], math.exp(0.3) / 4, math.exp(0.8) / drawn[0]]
    second = [math.exp(0.6) / drawn[1], math.exp(0.1) / 4]
    expected = -(math.log(first[0] / sum(first)) + math.log(second[0] / sum(second))) / 2
    assert softmax_loss(scores, negatives, ONES(2), 1.0, log_q).item() == pytest.approx(expected, abs=1e-6)


@given(
    st.integers(2, 6), st.integers(0, 5), st.integers(1, 5), st.sampled_from(["softmax", "plain", "hinge"]), st.data()
)
def test_a_labelled_candidate_acts_on_the_rows_it_concerns_alone(
    size: int, random: int, labels: int, kind: str, data: st.DataObject
) -> None:
    """Rows that no label concerns have the loss and the gradient that they have without labels."""
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    concerned = torch.rand(size, labels) < 0.3
    scores = torch.randn(size, size + random + labels, requires_grad=True)
    ids = torch.arange(scores.shape[1])
    mask = negative_mask(torch.arange(size), ids, size, concerned)
    log_q = torch.randn(size + random) if kind == "softmax" else None

    def loss(scores: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if kind == "hinge":
            return hinge_loss(scores, mask, weight, 0.1)
        return softmax_loss(scores, mask, weight, 0.05, log_q)

    (grad,) = torch.autograd.grad(loss(scores, mask, ONES(size)), scores)
    assert (grad[:, size + random :][~concerned] == 0).all()
    free = (~concerned.any(dim=1)).float()
    sampled = scores[:, : size + random]
    torch.testing.assert_close(loss(scores, mask, free), loss(sampled, mask[:, : size + random], free))


@pytest.mark.parametrize("log_q", [-40.0, -5.0, 0.0, 5.0, 40.0])
def test_the_correction_is_finite_for_any_frequency(log_q: float) -> None:
    scores = torch.randn(3, 5, requires_grad=True)
    softmax_loss(scores, ~torch.eye(3, 5, dtype=torch.bool), ONES(3), 0.05, torch.full((5,), log_q)).backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
