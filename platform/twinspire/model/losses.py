"""Losses over a matrix of scores: B queries against M candidates, of which the first B are the batch's own positives.

Candidate b is the positive of query b; every other candidate that `negatives` allows is a negative of it. The last S
candidates may be labelled: not sampled, but named as negatives of certain queries by a person or by what searchers did.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

Correction = Literal["mixture", "source", "none"]


class LossConfig(BaseModel):
    """Which loss, and its constants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["softmax", "hinge"] = "softmax"
    temperature: float = Field(0.05, gt=0, description="softmax: scores are divided by it")
    correction: Correction = Field("mixture", description="softmax: log-Q correction of sampled candidates")
    margin: float = Field(0.1, gt=0, description="hinge: by how much a positive must lead (paper: 0.1)")
    head_balance: float = Field(
        0.3, ge=0, description="with several heads: weight of the penalty on positives falling to few of them; 0: none"
    )


def negative_mask(
    queries: torch.Tensor, candidates: torch.Tensor, batch_negatives: int, concerned: torch.Tensor | None = None
) -> torch.Tensor:
    """Which candidates are negatives of which query, (B, M) bool.

    `queries` (B,) query ids, `candidates` (M,) item ids, the first B the positives. Query b takes the `batch_negatives`
    positives that follow its own, cyclically; every sampled candidate after the positives; and of the last S, the
    labelled ones, those that concern it by `concerned` (B, S) bool. An accidental positive, an item that any row of the
    batch has as the positive of the same query, is no negative.
    """
    size = len(queries)
    allowed = torch.ones(size, len(candidates), dtype=torch.bool, device=queries.device)
    following = torch.arange(size, device=queries.device)
    following = (following >= 1) & (following <= batch_negatives)  # by distance from a query's own positive
    allowed[:, :size] = following.repeat(2).unfold(0, size, 1)[1:].flip(0)  # row b: shifted by b
    if concerned is not None and concerned.shape[1]:
        allowed[:, -concerned.shape[1] :] = concerned
    same_query = (queries[:, None] == queries[None, :]).float()  # (B, B)
    same_item = (candidates[:size, None] == candidates[None, :]).float()  # (B, M)
    return allowed & (same_query @ same_item == 0)


def log_expected_count(
    click_share: torch.Tensor,
    *,
    batch: int,
    random: int,
    items: int,
    positives: int,
    correction: Literal["mixture", "source"],
) -> torch.Tensor:
    """log Q of each candidate, (M,): how often it is expected among one query's negatives.

    `click_share` (M,) is each candidate's share of training positives; the first `positives` candidates come from the
    batch's rows, then those drawn uniformly from `items`, whose numbers a query sees are `batch` and `random`.
    `mixture`: Q is the expected number over both sources together, whichever source it came from (balance heuristic).
    `source`: Q is what it would be if all negatives came from the candidate's own source.
    """
    from_batch = click_share.clamp_min(0.5 / max(items, 1) * 1e-3)
    if correction == "mixture":
        return torch.log(batch * from_batch + random / items)
    log_q = torch.log((batch + random) * from_batch)
    log_q[positives:] = math.log((batch + random) / items)
    return log_q


def softmax_loss(
    scores: torch.Tensor,
    negatives: torch.Tensor,
    weight: torch.Tensor,
    temperature: float,
    log_q: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sampled softmax: mean over queries of -log p(positive | candidates).

    `scores` (B, M), `negatives` (B, M) bool, `weight` (B,), `log_q` (M - S,), or None for no correction. log Q is
    *subtracted*: a candidate that is sampled often has to count less, so that the model's score becomes
    log P(item | query), not log P(item | query) / Q(item) (Bengio and Senecal 2008; Yi et al. 2019, section 4).
    A query's own positive stands among its candidates once, however often it was drawn, since its copies are no
    negatives: its Q is the probability of being drawn at all, 1 - exp(-Q). They differ for popular items.

    The last S candidates, labelled, were not drawn and have no Q. Were they counted into the Q of their items, the
    correction would divide by how often they are shown and so undo them: the sampled softmax would go on estimating
    the same P(item | query). They stand beside the sample instead, each with the correction of the row's own positive,
    so that it cancels between the two: what is learnt of the pair is that one scores above the other, whatever the
    popularity of either. The Q of the sampled candidates is what it is without them.
    """
    logits = scores / temperature
    positive = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    if log_q is not None:
        log_drawn = torch.log(-torch.expm1(-torch.exp(log_q)))
        correction = torch.where(positive[:, : len(log_q)], log_drawn[None, :], log_q[None, :])
        if len(log_q) < scores.shape[1]:
            labelled = log_drawn[: len(scores), None].expand(-1, scores.shape[1] - len(log_q))
            correction = torch.cat([correction, labelled], dim=1)
        logits = logits - correction
    logits = logits.masked_fill(~(negatives | positive), -torch.inf)
    losses = torch.logsumexp(logits, dim=1) - logits.diagonal()
    return _weighted_mean(losses, weight)


def hinge_loss(scores: torch.Tensor, negatives: torch.Tensor, weight: torch.Tensor, margin: float) -> torch.Tensor:
    """The paper's loss: sum over a query's negatives of max(0, margin - positive + negative), mean over queries
    (B,)."""
    losses = torch.relu(margin - scores.diagonal()[:, None] + scores) * negatives
    return _weighted_mean(losses.sum(dim=1), weight)


def _weighted_mean(losses: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """0 where all weights are: positives so old that their weight is none."""
    return (losses * weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
