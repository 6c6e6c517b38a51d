"""The known truth: how relevant an item is to a query, and what it is worth to a shopper; saved beside the log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import polars as pl

from twinspire.errors import DatasetError
from twinspire.simulation.brands import TASTE_DIMENSIONS
from twinspire.simulation.catalogue import Items
from twinspire.simulation.market import AUDIENCES
from twinspire.simulation.queries import KINDS, SENSES, QueryPool
from twinspire.simulation.shoppers import Shoppers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints

FORMAT = 1
_WRONG_BRAND, _WRONG_VALUE, _WRONG_TIER = 0.5, 0.66, 0.66
_PRICE_FIT = np.array([[0.9, -0.3, -1.8], [-0.3, 0.5, -0.4], [-1.6, -0.1, 1.1]], dtype=np.float32)  # power x tier
_TASTE, _QUALITY = 0.45, 0.35
_AFFINITY, _AFFINITY_AMBIGUOUS = 0.3, 1.2  # liking of the item's category; it decides what "apple" means
_SHARPNESS, _THRESHOLD = 2.0, 0.55
_BASE, _GRADED, _GRADE_POWER = 0.004, 0.9, 1.8


def _audience_grades() -> Floats:
    """(asked, item's): 1 for the same, 0.66 for items for everybody, 0.33 for somebody else's."""
    grades = np.full((len(AUDIENCES) + 1, len(AUDIENCES)), 0.33, dtype=np.float32)
    grades[:, [AUDIENCES.index("none"), AUDIENCES.index("all")]] = 0.66
    grades[np.arange(len(AUDIENCES)), np.arange(len(AUDIENCES))] = 1.0
    grades[-1] = 1.0  # nothing asked
    return grades


def _audience_fit() -> Floats:
    """(gender, item's audience) liking when the query names no audience."""
    fit = np.zeros((2, len(AUDIENCES)), dtype=np.float32)
    women, men = AUDIENCES.index("women"), AUDIENCES.index("men")
    fit[0, women], fit[0, men], fit[1, women], fit[1, men] = 0.5, -1.8, -2.2, 0.5
    return fit


_AUDIENCE_GRADES, _AUDIENCE_FIT = _audience_grades(), _audience_fit()
_OWNERS: dict[str, Any] = {"items": Items, "shoppers": Shoppers, "queries": QueryPool}


@dataclass(frozen=True)
class Truth:
    """A market whose every preference is known. Rows are rows of the items and users tables, in file order."""

    items: Items
    shoppers: Shoppers
    queries: QueryPool
    targets: Floats  # (G, T)
    demand: Doubles  # (C,) relative traffic of each category
    fashion: Floats = field(default_factory=lambda: np.zeros((1, TASTE_DIMENSIONS), np.float32))  # (days, dimensions)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.queries.text)}

    @cached_property
    def _ambiguous(self) -> Bools:
        """Whether a query asks for several things: any item of a brand, a need, or more than one sense."""
        ambiguous: Bools = (self.queries.target[:, 0] == 0) | (self.queries.target[:, 1] >= 0)
        return ambiguous

    def query_rows(self, queries: Sequence[str]) -> Ints:
        """Rows of query texts in the pool. Raises DatasetError for a text that the market has never typed."""
        cleaned = [" ".join(text.lower().split()) for text in queries]
        missing = next((text for text in cleaned if text not in self._rows), None)
        if missing is not None:
            raise DatasetError(f"the truth does not know the query {missing!r}; ask for one of truth/queries.parquet")
        return np.array([self._rows[text] for text in cleaned], dtype=np.int32)

    def relevance(self, queries: Sequence[str], item_rows: ArrayLike) -> Floats:
        """Relevance grades in [0, 1] of items (B,) or (B, K) for B query texts; an item row of -1 has grade 0."""
        return self._shaped(self.grades, (self.query_rows(queries),), item_rows)

    def taste(self, user_rows: ArrayLike, queries: Sequence[str], item_rows: ArrayLike) -> Floats:
        """What B shoppers think of items (B,) or (B, K), in log units, relevance and the day's fashion left aside."""
        users = np.asarray(user_rows, dtype=np.int32)
        return self._shaped(self.tastes, (users, self.query_rows(queries)), item_rows)

    def utility(self, user_rows: ArrayLike, queries: Sequence[str], item_rows: ArrayLike) -> Floats:
        """Utility in [0, 1] of items (B,) or (B, K) to B shoppers who typed B texts.

        It is the chance of a click once the shopper looks at the item, and orders items as the shopper would.
        """
        users = np.asarray(user_rows, dtype=np.int32)
        return self._shaped(self.utilities, (users, self.query_rows(queries)), item_rows)

    @staticmethod
    def _shaped(function: Any, keys: tuple[Ints, ...], item_rows: ArrayLike) -> Floats:
        items = np.asarray(item_rows, dtype=np.int32)
        wide = items if items.ndim == 2 else items[:, None]
        answer: Floats = function(*keys, wide)
        return answer.reshape(items.shape)

    def grades(self, query_rows: Ints, items: Ints) -> Floats:
        """Grades of items (B, K) for pool queries (B,): the best over the query's senses."""
        pool, facts = self.queries, self.items
        best = np.zeros(items.shape, dtype=np.float32)
        values = facts.values[items]  # (B, K, 4)
        for sense in range(SENSES):
            rows = np.flatnonzero(pool.target[query_rows, sense] >= 0)
            if not len(rows):
                continue
            query, item = query_rows[rows], items[rows]
            target, brand, value, audience, tier = (
                column[query, sense][:, None]
                for column in (pool.target, pool.brand, pool.value, pool.audience, pool.tier)
            )
            grade = self.targets[target, facts.type[item]]
            brand_miss = np.where(target == 0, 0.0, _WRONG_BRAND).astype(np.float32)
            grade = grade * np.where((brand < 0) | (facts.brand[item] == brand), np.float32(1), brand_miss)
            value_hit = (value < 0) | (values[rows] == value[:, :, None]).any(axis=2)
            grade *= np.where(value_hit, np.float32(1), np.float32(_WRONG_VALUE))
            grade *= _AUDIENCE_GRADES[audience, facts.audience[item]]
            grade *= np.where((tier < 0) | (facts.tier[item] == tier), np.float32(1), np.float32(_WRONG_TIER))
            best[rows] = np.maximum(best[rows], grade)
        best[items < 0] = 0.0
        return best

    def tastes(self, user_rows: Ints, query_rows: Ints, items: Ints, day: Floats | None = None) -> Floats:
        """Tastes (B, K) of shoppers (B,) who typed pool queries (B,), for items (B, K).

        `day` (B,), from the log's first, adds what is in fashion then; without it nothing is.
        """
        who, facts = self.shoppers, self.items
        user = user_rows[:, None]
        score = np.float32(_QUALITY) * facts.quality[items]
        score += _PRICE_FIT[who.power[user], facts.tier[items]]
        unnamed = np.all(self.queries.audience[query_rows] < 0, axis=1)
        score += self._audience_liking(user_rows, items) * np.asarray(unnamed)[:, None]
        loyal = who.loyal_brand[user, facts.department[items]] == facts.brand[items]
        score += np.where(loyal, who.loyalty[user], np.float32(0))
        style = np.einsum("bd,bkd->bk", who.taste[user_rows], facts.style[items]) / np.float32(
            np.sqrt(TASTE_DIMENSIONS)
        )
        score += np.float32(_TASTE / np.sqrt(TASTE_DIMENSIONS)) * style
        weight = np.where(self._ambiguous[query_rows], _AFFINITY_AMBIGUOUS, _AFFINITY).astype(np.float32)
        score += weight[:, None] * who.affinity[user, facts.category[items]]
        if day is not None and self.fashion.any():
            worn = self.fashion[np.clip(day.astype(np.int64), 0, len(self.fashion) - 1)]  # (B, dimensions)
            score += np.einsum("bd,bkd->bk", worn, facts.style[items])
        return score

    def _audience_liking(self, user_rows: Ints, items: Ints) -> Floats:
        """Gender against women's and men's items, parents and children's, age and seniors'."""
        who = self.shoppers
        user, audience = user_rows[:, None], self.items.audience[items]
        liking = _AUDIENCE_FIT[who.gender[user], audience]
        kids, senior = AUDIENCES.index("kids"), AUDIENCES.index("senior")
        liking = np.where(audience == kids, np.where(who.parent[user], 0.3, -1.6), liking)
        return np.where(audience == senior, np.where(who.age[user] >= 4, 0.9, -0.6), liking).astype(np.float32)

    def utilities(self, user_rows: Ints, query_rows: Ints, items: Ints, day: Floats | None = None) -> Floats:
        """Chance of a click on items (B, K) that are looked at: relevance times taste (of that `day`, see `tastes`)."""
        wanted = _BASE + _GRADED * self.grades(query_rows, items) ** np.float32(_GRADE_POWER)
        liking = _SHARPNESS * (self.tastes(user_rows, query_rows, items, day) - _THRESHOLD)
        chance: Floats = (wanted / (1.0 + np.exp(-liking))).astype(np.float32)
        chance[items < 0] = 0.0
        return chance


def drifting(rng: np.random.Generator, days: int, drift: float) -> Floats:
    """Fashion that turns by half a circle over so many days, (days, TASTE_DIMENSIONS): what is in on the first is out
    on the last. `drift` is the length of each day's vector, in the log units of tastes a unit of style."""
    axes, _ = np.linalg.qr(rng.normal(size=(TASTE_DIMENSIONS, 2)))
    angle = np.pi * np.arange(days) / max(days - 1, 1)
    turned: Floats = (drift * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ axes.T).astype(np.float32)
    return turned


def save(truth: Truth, folder: Path, facts: dict[str, Any]) -> None:
    """Write the truth as plain arrays (`*.npz`, no pickle), the queries as a table, and its facts as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = truth.queries
    for name, owner in _OWNERS.items():
        part = getattr(truth, name)
        arrays = {f.name: np.asarray(getattr(part, f.name)) for f in fields(owner) if f.name != "text"}
        np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
    market: dict[str, Any] = {"targets": truth.targets, "demand": truth.demand}
    if truth.fashion.any():
        market["fashion"] = truth.fashion
    np.savez(folder / "market.npz", allow_pickle=False, **market)
    kinds = pl.Series(list(KINDS))[pool.kind]
    senses = (pool.target >= 0).sum(axis=1)
    table = pl.DataFrame({"query": pool.text, "kind": kinds, "weight": pool.weight, "senses": senses})
    table.write_parquet(folder / "queries.parquet")
    note = json.dumps({"format": FORMAT, **facts}, indent=2, sort_keys=True)
    (folder / "truth.json").write_text(note + "\n")


def _part(folder: Path, name: str) -> dict[str, Any]:
    """The fields of one part, by name."""
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = dict(archive)
        if name == "queries":
            queries = pl.read_parquet(folder / "queries.parquet", columns=["query"], glob=False)
            arrays["text"] = queries["query"].to_list()
    except (OSError, ValueError, BadZipFile, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{path} is not a readable part of a truth ({error}); simulate the market again") from error
    return arrays


def load(folder: str | Path) -> Truth:
    """Load the truth of a simulated dataset, from its folder or its `truth` folder.

    Raises DatasetError where there is none or where it is damaged.
    """
    root = Path(folder)
    root = root / "truth" if (root / "truth").is_dir() else root
    note = root / "truth.json"
    if not note.is_file():
        raise DatasetError(f"{root} holds no truth (no truth.json); `twinspire simulate` writes one with its datasets")
    try:
        written = json.loads(note.read_text()).get("format")
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{note} is damaged ({error}); simulate the market again") from error
    if written != FORMAT:
        raise DatasetError(f"{note}: this version reads truth format {FORMAT}; simulate the market again")
    parts = {name: owner(**_part(root, name)) for name, owner in _OWNERS.items()}
    return Truth(**parts, **_part(root, "market"))
