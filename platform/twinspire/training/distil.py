"""The phase before the clicks: both towers learn a teacher's vectors. Pure torch, runs without Ray.

The query tower learns the vectors of short texts, the item tower those of the titles; the loss of a text is 1 - cosine.
The rows of single words start at the teacher's vector of that word, as long as the word says something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from twinspire.model import to_bags
from twinspire.progress import Progress
from twinspire.ragged import Ragged
from twinspire.training.adagrad import Adagrad
from twinspire.training.build import new_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.config import Config
    from twinspire.features.dictionaries import Dictionaries
    from twinspire.features.encode import Encoded
    from twinspire.features.store import Bags
    from twinspire.model import TwoTower
    from twinspire.teacher.lessons import Lessons

BATCH = 256
EPOCHS = 6
LEAST_STEPS = 750  # a small catalogue is read through more often
RATE = 0.02  # of Adagrad, falling to zero


def distil(encoded: Encoded, lessons: Lessons, config: Config) -> tuple[TwoTower, float]:
    """A model that has learnt the lessons, and its last loss, of both towers together."""
    seed = config.training.seed
    model = new_model(encoded.dictionaries, config.model, seed=seed, sparse=True)
    start_words(model, encoded.dictionaries, lessons)
    pupil = _Pupil(model, encoded, lessons)
    rng = np.random.default_rng(seed)
    steps = max(LEAST_STEPS, EPOCHS * max(len(lessons.texts), len(lessons.items)) // BATCH)
    optimiser = Adagrad(model.parameters(), lr=RATE)
    mean = 0.0
    torch.manual_seed(seed)
    model.train()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("learn from the teacher", total=steps, note="")
        for step in range(steps):
            loss = pupil.loss(rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            optimiser.step()
            mean += (float(loss.detach()) - mean) / min(step + 1, 50)
            bar.update(task, advance=1, note=f"loss {mean:.3f}")
    return model.eval(), mean


def start_words(model: TwoTower, dictionaries: Dictionaries, lessons: Lessons) -> None:
    """Turn the row of each single word to the teacher's vector of it; rows keep their lengths."""
    if "words" not in model.tables:
        return
    bags = dictionaries.text(lessons.texts.head(lessons.words))["words"]
    alone = np.flatnonzero(bags.lengths == 1)
    rows = torch.from_numpy(bags.values[bags.offsets[alone]].astype(np.int64))
    weight: torch.Tensor = model.tables["words"].weight  # type: ignore[assignment]
    with torch.no_grad():
        lengths = weight[rows].norm(dim=1, keepdim=True)
        weight[rows] = torch.from_numpy(lessons.text_vectors[: lessons.words][alone]) * lengths


class _Pupil:
    """Batches of lessons, and how far the towers are from them."""

    def __init__(self, model: TwoTower, encoded: Encoded, lessons: Lessons) -> None:
        self.model, self.store, self.lessons = model, encoded.store, lessons
        self.bags: Bags = encoded.dictionaries.text(lessons.texts)

    def loss(self, rng: np.random.Generator) -> torch.Tensor:
        """Mean of 1 - cosine over a batch of texts, plus that over a batch of titles; every head learns the same."""
        texts = _draw(len(self.lessons.texts), rng)
        titles = _draw(len(self.lessons.items), rng)
        nothing = Ragged(np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64))
        queries = {
            name: self.bags[name].gather(texts) if name in self.bags else nothing
            for name in self.model.query_tower.names
        }
        items = self.store.item_features(self.lessons.items[titles])
        query_vectors, item_vectors = self.model(to_bags(queries), to_bags(items))
        of_texts = torch.from_numpy(self.lessons.text_vectors[texts])[:, None]  # (B, 1, D)
        of_titles = torch.from_numpy(self.lessons.item_vectors[titles])
        loss: torch.Tensor = 2 - (query_vectors * of_texts).sum(-1).mean() - (item_vectors * of_titles).sum(-1).mean()
        return loss


def _draw(size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(0, size, min(size, BATCH))
