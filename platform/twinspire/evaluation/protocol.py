"""How systems are compared: the same cases, the same luck in ties, the same resamples.

A case is one later click. Every system scores the whole catalogue for it; the clicked item's rank among all
items is all that is kept, so memory holds one block of scores at a time, whatever the number of cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from twinspire.evaluation.bootstrap import means
from twinspire.evaluation.judged import differences, estimates, judged_section
from twinspire.evaluation.metrics import click_metrics
from twinspire.evaluation.ranks import ranks
from twinspire.evaluation.report import Report, Section
from twinspire.evaluation.slices import SLICES, slices
from twinspire.progress import Progress
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from twinspire.evaluation.clicks import TrainingClicks
    from twinspire.features.query import Query

_SCORES_A_BLOCK = 1 << 24


class System(Protocol):
    """Anything that scores items for queries; higher is better. `item` is a row in the items table."""

    @property
    def name(self) -> str:
        """What the report calls it; unique among the systems compared."""
        ...

    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items) of the whole catalogue for B cases.

        `cases` has `query` str as typed, `user_id` str or null, `timestamp`, and `item`, the clicked one,
        which only the judge may look at.
        """
        ...

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of pairs of `query` and `item`, without a shopper."""
        ...

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items of one query, best first, as the system itself finds them; for its time."""
        ...


class EvaluationConfig(BaseModel):
    """What is measured, on how many cases, and how sure it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_cases: int = Field(default=20_000, ge=1, description="More cases are sampled down to this many.")
    n_random: int = Field(default=1024, ge=1, description="Random items against the clicked one, in Top-k.")
    positive_grade: float = Field(default=0.66, description="Grades from here on are relevant, for AUC.")
    negative_grade: float = Field(default=0.33, description="Grades below are not relevant, for AUC.")
    resamples: int = Field(default=1000, ge=100, description="Resamples of the bootstrap.")
    seed: int = 0


def evaluate(
    systems: Sequence[System],
    cases: pl.DataFrame,
    *,
    titles: pl.Series,
    training: TrainingClicks,
    judgements: pl.DataFrame | None = None,
    config: EvaluationConfig | None = None,
    compare: Sequence[tuple[str, str]] = (),
    show_progress: bool = False,
) -> Report:
    """Compare `systems` on `cases`, and on `judgements` where given.

    Differences are those of the first system from each other one, and of the pairs of names in `compare`.

    `cases` comes from `clicks` (B rows; may be empty), `titles` (n_items,) is the catalogue by row,
    `training` says which queries training saw how often, `judgements` comes from `judged_pairs`. Time goes
    with systems x cases x items; memory does not. Raises ValueError for scores of the wrong shape or that
    are not numbers.
    """
    config = config or EvaluationConfig()
    names = [system.name for system in systems]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"systems need distinct names, got {names}")
    sampled = _sample(cases, config)
    places = _ranks(systems, sampled, len(titles), config.seed, show_progress=show_progress)
    pairs_section = None
    if judgements is not None and len(judgements):
        pairs_section = judged_section(
            judgements,
            {system.name: _checked(system, system.pair_scores(judgements), (len(judgements),)) for system in systems},
            positive_grade=config.positive_grade,
            negative_grade=config.negative_grade,
            rounds=config.resamples,
            seed=config.seed,
            compare=compare,
        )
    return Report(
        items=len(titles),
        cases=len(cases),
        cases_evaluated=len(sampled),
        seed=config.seed,
        resamples=config.resamples,
        slices=_sections(names, sampled, places, titles, training, config, compare),
        judgements=pairs_section,
    )


def _sample(cases: pl.DataFrame, config: EvaluationConfig) -> pl.DataFrame:
    """At most `max_cases` of the cases, the cases of one query side by side."""
    if len(cases) > config.max_cases:
        rows = np.random.default_rng(config.seed).choice(len(cases), config.max_cases, replace=False)
        cases = cases[np.sort(rows)]
    order = normalise_column(cases["query"]).alias("query").to_frame().with_row_index("row").sort("query", "row")
    return cases[order["row"]]


def _ranks(
    systems: Sequence[System], cases: pl.DataFrame, n_items: int, seed: int, *, show_progress: bool
) -> NDArray[np.int64]:
    """Rank of each case's clicked item by each system, (S, B)."""
    luck = np.random.default_rng(seed).random(len(cases))
    items = cases["item"].to_numpy()
    result = np.empty((len(systems), len(cases)), np.int64)
    for start, stop in _blocks(len(cases), n_items, show_progress=show_progress):
        block = cases[start:stop]
        for s, system in enumerate(systems):
            scores = _checked(system, system.scores(block), (stop - start, n_items))
            try:
                result[s, start:stop] = ranks(scores, items[start:stop], luck[start:stop])
            except ValueError as error:
                raise ValueError(f"system {system.name!r}: {error}") from None
    return result


def _blocks(n_cases: int, n_items: int, *, show_progress: bool) -> Iterator[tuple[int, int]]:
    size = min(max(_SCORES_A_BLOCK // max(n_items, 1), 1), 4096)
    with Progress(disable=not show_progress, transient=True) as progress:
        task = progress.add_task("evaluating", total=n_cases)
        for start in range(0, n_cases, size):
            stop = min(start + size, n_cases)
            yield start, stop
            progress.update(task, completed=stop)


def _sections(
    names: list[str],
    cases: pl.DataFrame,
    places: NDArray[np.int64],
    titles: pl.Series,
    training: TrainingClicks,
    config: EvaluationConfig,
    compare: Sequence[tuple[str, str]],
) -> dict[str, Section]:
    by_system = [click_metrics(rank, n_items=len(titles), n_random=config.n_random) for rank in places]
    columns = list(by_system[0])
    values = np.stack([np.stack(list(figures.values()), axis=1) for figures in by_system], axis=1)
    query = normalise_column(cases["query"]).rank("dense").to_numpy().astype(np.int64)
    sections = {}
    for name, mask in slices(cases, titles, training).items():
        flat = values[mask].reshape(int(mask.sum()), len(names) * len(columns))
        mean, resampled = means(flat, query[mask], rounds=config.resamples, seed=config.seed)
        mean = mean.reshape(len(names), len(columns))
        resampled = resampled.reshape(len(resampled), len(names), len(columns)).transpose(1, 0, 2)
        sections[name] = Section(
            description=SLICES[name],
            cases=int(mask.sum()),
            queries=len(np.unique(query[mask])),
            systems=estimates(names, columns, mean, resampled),
            differences=differences(names, columns, mean, resampled, compare),
        )
    return sections


def _checked(system: System, scores: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if scores.shape != shape:
        raise ValueError(f"system {system.name!r}: scores have shape {scores.shape}, not {shape}")
    if scores.ndim == 1 and np.isnan(scores).any():  # `ranks` looks at whole catalogues while it counts
        raise ValueError(f"system {system.name!r}: a score is not a number")
    return np.asarray(scores, np.float32)
