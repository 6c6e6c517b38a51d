"""The arms of the ablation: one training each, on the same rows in the same order, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from twinspire.config import load_config
from twinspire.evaluation import metrics
from twinspire.evaluation.ranks import ranks
from twinspire.features.encode import encode
from twinspire.model import best_head, to_bags
from twinspire.text import normalise_column
from twinspire.training.batches import split
from twinspire.training.build import new_model
from twinspire.training.feed import ReadPart
from twinspire.training.learner import Learner
from twinspire.training.validation import item_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.dataset import Dataset
    from twinspire.features.encode import Encoded
    from twinspire.model import TwoTower
    from twinspire.simulation import Truth

OFF = ("supervision.positives=0", "supervision.negatives=0", "supervision.skipped=0")
BEST, FIRST = 10, 30  # items whose true grade is looked at; where labelled pairs are looked for
_AT_ONCE = 512
Figures = dict[str, tuple["NDArray[np.float64]", "NDArray[np.integer]"]]  # values (B,) of B cases, and their queries


def arms(skipped: float) -> dict[str, tuple[str, ...]]:
    """Settings of each arm; `skipped` is the share of skipped items."""
    more = f"supervision.skipped={skipped}"
    return {
        "none": OFF,
        "positives": OFF[1:],
        "negatives": (OFF[0], OFF[2]),
        "skipped": (*OFF[:2], more),
        "all": (more,),
    }


def train(source: Dataset, settings: tuple[str, ...], rounds: int, folder: Path) -> tuple[Encoded, TwoTower]:
    """Train on the log before its validation window, by the product's rows, batches and learner, without Ray."""
    config = load_config(None, settings)
    seed, size = config.training.seed, config.training.batch_size
    encoded, _ = encode(source, config.features, config.log, config.text, folder, seed, supervision=config.supervision)
    model = new_model(encoded.dictionaries, config.model, seed=seed, sparse=True)
    steps = rounds * (encoded.meta.rows["training"] // size)
    learner = Learner(model, encoded.store, encoded.clicks("training"), config, steps)
    read = ReadPart(config.negatives, size, encoded.store.n_items, seed, supervision=config.supervision)
    for round_ in range(rounds):
        for number, path in enumerate(sorted((folder / "rows" / "training").glob("*.parquet"))):
            columns = read({"path": np.array([str(path)]), "round": np.array([round_]), "part": np.array([number])})
            for batch in split(columns, size):
                learner.step(batch)
    return encoded, model.eval()


@dataclass(frozen=True)
class Test:
    """What the arms are tested on beside later clicks.

    `labelled` pairs (query, item, label) count in no test; how many of them were learned by heart is told apart.
    `queries` are the log's, by row. `judged`: query, item, grade. `asked`: queries of later clicks whose best items the
    `truth`, if there is one, grades.
    """

    queries: pl.Series
    labelled: pl.DataFrame
    judged: pl.DataFrame
    asked: list[str]
    truth: Truth | None

    @torch.inference_mode()
    def measure(self, encoded: Encoded, model: TwoTower) -> Figures:
        """Every figure of one arm."""
        items = item_vectors(model, encoded.store, np.arange(encoded.store.n_items))
        figures = self._clicks(encoded, model, items) | self._by_heart(encoded, model, items)
        if len(self.judged):
            figures |= self._judged(encoded, model, items)
        if self.truth is not None:
            figures |= self._graded(encoded, model, items, self.truth)
        return figures

    def _clicks(self, encoded: Encoded, model: TwoTower, items: torch.Tensor) -> Figures:
        """Later clicks, of the shoppers who made them."""
        cases = encoded.validation.with_columns(text=self.queries.gather(encoded.validation["query"]))
        cases = cases.join(
            self.labelled.rename({"query": "text"}), on=["text", "item"], how="anti", maintain_order="left"
        )
        place = []
        for part in cases.iter_slices(_AT_ONCE):
            columns = [part[name].to_numpy() for name in ("query", "user", "stop")]
            heads = model.queries(to_bags(encoded.store.query_features(*columns)))
            luck = np.random.default_rng(0).random(len(part))
            place.append(ranks(best_head(heads, items).numpy(), part["item"].to_numpy(), luck))
        found = metrics.click_metrics(np.concatenate(place), n_items=len(items))
        kept = ("top1_of_1024", "top10_of_1024", "recall@100", "mrr")
        return {f"clicks {name}": (found[name], cases["query"].to_numpy()) for name in kept}

    def _judged(self, encoded: Encoded, model: TwoTower, items: torch.Tensor) -> Figures:
        """Judged pairs, by query."""
        texts, query = np.unique(self.judged["query"].to_numpy(), return_inverse=True)
        scores = self._scores(encoded, model, items, texts.tolist())
        score, grade = scores[query, self.judged["item"].to_numpy()], self.judged["grade"].to_numpy()
        decided = np.flatnonzero((grade >= 0.66) | (grade < 0.33))
        area = metrics.auc_by_query(score[decided], grade[decided] >= 0.66, query[decided], len(texts))
        gain = metrics.ndcg_by_query(score, grade, query, len(texts))
        rows = np.arange(len(texts))
        return {"judged AUC within query": (area, rows), "judged NDCG@10": (gain, rows)}

    def _graded(self, encoded: Encoded, model: TwoTower, items: torch.Tensor, truth: Truth) -> Figures:
        """True grade of each query's best items that nobody labelled, of queries with labels and of those without."""
        scores = self._scores(encoded, model, items, self.asked)
        rows = {text: row for row, text in enumerate(self.asked)}
        told = self.labelled.filter(pl.col("query").is_in(self.asked))
        row = np.array([rows[text] for text in told["query"]], np.int64)
        scores[row, told["item"].to_numpy()] = -np.inf
        grade = truth.relevance(self.asked, np.argsort(-scores, axis=1)[:, :BEST]).mean(axis=1).astype(np.float64)
        has = np.isin(np.arange(len(self.asked)), row)
        return {
            f"true grade of the first {BEST}, {name} queries": (grade[part], np.flatnonzero(part))
            for name, part in (("labelled", has), ("other", ~has))
        }

    def _by_heart(self, encoded: Encoded, model: TwoTower, items: torch.Tensor) -> Figures:
        """Labelled pairs that are among the first: the negatives, in few, and the positives, in many."""
        texts, query = np.unique(self.labelled["query"].to_numpy(), return_inverse=True)
        if len(texts) == 0:
            return {}
        scores = self._scores(encoded, model, items, texts.tolist())
        own = scores[query, self.labelled["item"].to_numpy()]
        first = ((scores[query] > own[:, None]).sum(axis=1) < FIRST).astype(np.float64)
        return {
            f"{label} pairs among the first {FIRST} (trained on)": (first[kept], query[kept])
            for label in ("negative", "positive")
            if (kept := (self.labelled["label"] == label).to_numpy()).any()
        }

    @staticmethod
    def _scores(encoded: Encoded, model: TwoTower, items: torch.Tensor, texts: list[str]) -> NDArray[np.float32]:
        """Scores (Q, n) of texts that nobody in particular asks."""
        store = encoded.store
        nobody = np.full(len(texts), -1, np.int32)
        features = store.query_features(np.zeros_like(nobody), nobody, np.zeros(len(texts), np.int64))
        bags = encoded.dictionaries.text(normalise_column(pl.Series(texts)))
        features |= {name: bags[name] for name in store.queries}
        scores: NDArray[np.float32] = best_head(model.queries(to_bags(features)), items).numpy()
        return scores
