"""Bundles in memory: the version that answers for each arm, and the one before it for an instant rollback."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from serving.encode import ItemEncoder
from serving.metrics import Metrics
from twinspire.errors import RequestError
from twinspire.index.variation import Variation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.ids import ItemIds
    from twinspire.features.query import Query, Shopper
    from twinspire.index.hybrid import Asked

DEFAULT_ARM = "default"
MOST_SHOPPERS = 100
UNCHANGED = Variation()


class Results(Protocol):
    """Rows, scores and the head that found each: (B, k), rows -1 where short."""

    @property
    def items(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def scores(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def heads(self) -> NDArray[np.int8]: ...  # noqa: D102


class Retriever(Protocol):
    """What the service needs of a bundle; items are in the order of the rows."""

    @property
    def manifest(self) -> Any: ...  # noqa: D102
    @property
    def item_ids(self) -> ItemIds: ...  # noqa: D102
    @property
    def item_rows(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def items(self) -> pl.DataFrame: ...  # noqa: D102

    def ask(self, queries: Sequence[Query]) -> list[Asked]:
        """B queries, ready for the index."""
        ...

    def nearest(self, asked: Sequence[Asked], k: int) -> Results:
        """The k best items of each of what `ask` gave."""
        ...

    def shoppers(self, count: int) -> list[Shopper]:
        """Sample shoppers."""
        ...

    def trials(self) -> list[Query]:
        """Queries that between them run all of the code that a search can come to."""
        ...

    def varied(self, variation: Variation) -> Retriever:
        """The same, ranking otherwise. Errors: BundleError where it cannot."""
        ...


@dataclass(frozen=True, eq=False)
class Version:
    """A bundle that can answer for an arm. `address` is where it came from, `key` which content it had there."""

    arm: str
    bundle: Retriever
    address: str = ""
    key: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        manifest = self.bundle.manifest
        model = {"name": str(manifest.name), "version": str(manifest.version)}
        known = {
            "model": model,
            "middle": b'","arm":%s,"model":%s' % (orjson.dumps(self.arm), orjson.dumps(model)),
            "encoder": ItemEncoder(self.bundle.item_ids),
            "samples": self.bundle.shoppers(MOST_SHOPPERS),
            "label": self.arm,
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    model: dict[str, str] = field(init=False)
    middle: bytes = field(init=False)  # of an answer, behind its id
    encoder: ItemEncoder = field(init=False)
    metrics: Metrics = field(init=False, default_factory=Metrics)
    samples: list[Shopper] = field(init=False)
    label: str = field(init=False)  # for metrics
    variations: dict[Variation, Version] = field(init=False, default_factory=dict)

    def varied(self, variation: Variation) -> Version:
        """This version with another ranking, over the same memory, measured for itself.

        Errors: BundleError where it cannot rank so.
        """
        if variation == UNCHANGED:
            return self
        found = self.variations.get(variation)
        if found is None:
            found = copy.copy(self)
            changes = "&".join(f"{name}={value}" for name, value in variation.model_dump(exclude_unset=True).items())
            for name, value in {
                "bundle": self.bundle.varied(variation),
                "metrics": Metrics(),
                "variations": {},
                "label": f"{self.arm}?{changes}",
            }.items():
                object.__setattr__(found, name, value)
            self.variations[variation] = found
        return found

    @property
    def created(self) -> datetime | None:
        """When the index was made, where the bundle says so."""
        created = getattr(self.bundle.manifest, "created", None)
        return datetime.fromisoformat(created) if created else None

    def status(self) -> dict[str, Any]:
        """For /v1/status."""
        return {"model": self.model, "bundle": self.address, "key": self.key, "since": self.since}


class Versions:
    """Which version answers for each arm. Readers see one mapping, which is replaced as a whole, never changed."""

    def __init__(self) -> None:
        self.current: Mapping[str, Version] = {}
        self.previous: Mapping[str, Version] = {}

    def of(self, arm: str | None) -> Version:
        """The version that answers for an arm. Errors: RequestError for one that there is not."""
        found = self.current.get(arm or DEFAULT_ARM)
        if found is None:
            raise RequestError("arm", f"there is no such arm; this server has: {', '.join(self.current)}")
        return found

    def put(self, version: Version) -> None:
        """From the next request on this one answers; the one before stays at hand."""
        before = self.current.get(version.arm)
        self.current = {**self.current, version.arm: version}
        if before is not None:
            self.previous = {**self.previous, version.arm: before}

    def roll_back(self, arm: str) -> Version | None:
        """Let the previous version of an arm answer again, in place of the present one; None where there is none."""
        before = self.previous.get(arm)
        if before is not None:
            self.put(before)
        return before

    def forget(self, arm: str) -> None:
        """Give the memory of an arm's previous version back."""
        self.previous = {name: version for name, version in self.previous.items() if name != arm}

    def drop(self, arm: str) -> None:
        """Answer no more for an arm."""
        self.forget(arm)
        self.current = {name: version for name, version in self.current.items() if name != arm}
