"""Training rows on disk: the log's positives and what supervises them, once as of the validation window, once in all.

Nothing of the `training` part knows of events in the validation window; labels have no time and stand in both parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from twinspire.errors import DatasetError
from twinspire.features.impressions import events_before, most_skipped, unclicked
from twinspire.features.log import cut_time
from twinspire.features.supervision import PAIR, Labels, SupervisionConfig, repeated, save_negatives

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.dataset import Dataset
    from twinspire.features.log import LogConfig, Positives

PART_ROWS = 200_000
COLUMNS = ("query", "user", "item", "stop", "weight")


@dataclass(frozen=True)
class RowWriter:
    """Writes the parts `training` and `all`: rows, clicks of each item, negative pairs."""

    dataset: Dataset
    positives: Positives
    labels: Labels
    log: LogConfig
    supervision: SupervisionConfig
    impressions: bool
    folder: Path
    seed: int

    def write(self) -> dict[str, Any]:
        """Write both parts and the validation window; gives the fields of the meta data that count them."""
        n = len(self.positives)
        window = round(n * self.log.validation_share)
        rng = np.random.default_rng(self.seed)
        frame = pl.DataFrame({name: getattr(self.positives, name) for name in COLUMNS})
        (self.folder / "rows").mkdir()
        rows: dict[str, int] = {}
        counts: dict[str, int] = {}
        for part, upto in (("training", n - window), ("all", n)):
            rows[part], counts = self._write_part(part, frame[:upto], rng)
        chosen = np.sort(rng.permutation(window)[: self.log.validation_cap]) + n - window
        frame[chosen].write_parquet(self.folder / "rows" / "validation.parquet")
        return {"training": n - window, "validation": len(chosen), "rows": rows, "supervision": counts}

    def _write_part(self, part: str, frame: pl.DataFrame, rng: np.random.Generator) -> tuple[int, dict[str, int]]:
        """Rows in random order, so that any part file is a sample of the log; their number, and the pairs used."""
        upto = len(frame)
        labelled = repeated(self.labels.positives, upto, self.supervision, rng)
        events = self._events(upto)
        if self.impressions:
            assert events is not None
            shown = unclicked(events, self.positives, self.log.events)[:upto]
            if upto and shown.list.len().sum() == 0:
                raise DatasetError(_NO_IMPRESSIONS)
            frame = frame.with_columns(shown.alias("impressions"))
        frame = pl.concat([frame, _as_rows(labelled, frame)])
        _write_files(frame[rng.permutation(len(frame))], self.folder / "rows" / part)
        clicks = np.bincount(frame["item"], minlength=len(self.dataset.items))
        np.save(self.folder / f"clicks.{part}.npy", clicks)
        pairs = {"labelled": self.labels.negatives, "skipped": self._skipped(events)}
        save_negatives(pairs, len(self.labels.queries), self.folder / "negatives" / part)
        counts = {"positives": len(labelled), **{source: len(found) for source, found in pairs.items()}}
        return len(frame), counts

    def _events(self, upto: int) -> pl.LazyFrame | None:
        """The log before the first positive that the part does not hold; None where nothing reads it."""
        if self.impressions and self.dataset.interactions is None:
            raise DatasetError(_NO_IMPRESSIONS)
        if self.dataset.interactions is None or not (self.impressions or self.supervision.skipped):
            return None
        if upto < len(self.positives):
            return events_before(self.dataset, self.positives, int(self.positives.time[upto]))
        until = cut_time(self.dataset, self.log)
        before = None if until is None else int(pl.Series([until]).dt.epoch("us")[0])
        return events_before(self.dataset, self.positives, before)

    def _skipped(self, events: pl.LazyFrame | None) -> pl.DataFrame:
        """Skipped pairs; what a person says of a pair stands above what searchers do."""
        if not self.supervision.skipped or events is None:
            return pl.DataFrame(schema=PAIR)
        found = most_skipped(events, self.supervision.min_skips)
        said = pl.concat([self.labels.positives, self.labels.negatives])
        return found.join(said, on=list(PAIR), how="anti", maintain_order="left")


_NO_IMPRESSIONS = (
    "negatives.kind: impressions needs searches with a session, a click and an item that was shown and not clicked; "
    "the interactions hold none: use hybrid"
)


def _as_rows(pairs: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    """Labelled pairs as rows of nobody, without a history, of the mean weight: their share of the rows is theirs of the
    loss."""
    constants = {"user": -1, "stop": 0, "weight": like["weight"].mean() if len(like) else 1.0}
    added = [pl.lit(value, like.schema[name]).alias(name) for name, value in constants.items()]
    if "impressions" in like.columns:
        added.append(pl.lit([], like.schema["impressions"]).alias("impressions"))
    return pairs.with_columns(added).select(like.columns)


def _write_files(rows: pl.DataFrame, folder: Path) -> None:
    folder.mkdir()
    for number, start in enumerate(_starts(len(rows))):
        rows[start : start + PART_ROWS].write_parquet(folder / f"part-{number:05d}.parquet")


def _starts(rows: int) -> Iterator[int]:
    return iter(range(0, max(rows, 1), PART_ROWS))
