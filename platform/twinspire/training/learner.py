"""One training step and the state around it. Pure torch and numpy: the same learner runs under Ray Train and in a
plain loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from twinspire.model import (
    head_imbalance,
    hinge_loss,
    log_expected_count,
    negative_mask,
    soft_dot_product,
    softmax_loss,
    to_bags,
)
from twinspire.training.adagrad import Adagrad
from twinspire.training.batches import candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from twinspire.config import Config
    from twinspire.features.store import FeatureStore


class Learner:
    """Model, optimiser and schedule.

    `model` gives (queries, items) vectors, a TwoTower or its distributed wrapper; `clicks` (n,) are the positives of
    each item, whose shares are the sampling probabilities of batch negatives; `steps` is the length of the schedule;
    `optimiser` is one that starts at the configured rate, Adagrad over the model's parameters where there is none.
    """

    def __init__(
        self,
        model: nn.Module,
        store: FeatureStore,
        clicks: NDArray[np.integer | np.floating],
        config: Config,
        steps: int,
        device: str = "cpu",
        optimiser: torch.optim.Optimizer | None = None,
    ) -> None:
        self.model, self.store, self.config, self.device = model, store, config, device
        share = torch.from_numpy(clicks / max(float(clicks.sum()), 1e-9)).float()
        self._click_share = share.to(device)
        if optimiser is None:
            kind = Adagrad if device == "cpu" else torch.optim.Adagrad
            optimiser = kind(model.parameters(), lr=config.training.learning_rate)
        self.optimiser = optimiser
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate(steps, config.training.schedule))

    @staticmethod
    def _rate(steps: int, schedule: str) -> Callable[[int], float]:
        if schedule == "constant":
            return lambda _step: 1.0
        return lambda step: max(0.0, 1 - step / max(steps, 1))

    def step(self, batch: Mapping[str, NDArray[Any]]) -> torch.Tensor:
        """Learn from one batch of B rows (see `batches`); gives the loss, detached, still on the device."""
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()

    def loss(self, batch: Mapping[str, NDArray[Any]]) -> torch.Tensor:
        """The batch's loss, a scalar."""
        negatives = self.config.negatives
        ids, from_log, concerned = candidates(batch, negatives, self.config.supervision)
        queries = to_bags(self.store.query_features(batch["query"], batch["user"], batch["stop"]), self.device)
        items = to_bags(self.store.item_features(ids), self.device)
        query_vectors, item_vectors = self.model(queries, items)
        scores = soft_dot_product(query_vectors, item_vectors, self.config.model.head_temperature)  # (B, M)
        item_ids = torch.from_numpy(ids).to(self.device)
        mask = negative_mask(
            torch.from_numpy(batch["query"].copy()).to(self.device),
            item_ids,
            negatives.batch,
            torch.from_numpy(concerned).to(self.device),
        )
        weight = torch.from_numpy(batch["weight"].copy()).to(self.device)
        loss = self._ranking_loss(scores, mask, weight, item_ids, from_log, concerned.shape[1])
        beta, balance = self.config.model.head_temperature, self.config.loss.head_balance
        return loss + balance * head_imbalance(query_vectors, item_vectors[: len(weight)], beta, weight)

    def _ranking_loss(
        self,
        scores: torch.Tensor,
        mask: torch.Tensor,
        weight: torch.Tensor,
        items: torch.Tensor,
        from_log: int,
        labelled: int,
    ) -> torch.Tensor:
        """Scores and mask (B, M) of candidate `items` (M,) to the loss; the last `labelled` were not sampled."""
        negatives, loss = self.config.negatives, self.config.loss
        if loss.kind == "hinge":
            return hinge_loss(scores, mask, weight, loss.margin)
        log_q = None
        if loss.correction != "none" and negatives.kind == "hybrid":  # an impression is no sample
            log_q = log_expected_count(
                self._click_share[items[: len(items) - labelled].long()],
                batch=negatives.batch,
                random=negatives.random,
                items=self.store.n_items,
                positives=from_log,
                correction=loss.correction,
            )
        return softmax_loss(scores, mask, weight, loss.temperature, log_q)
