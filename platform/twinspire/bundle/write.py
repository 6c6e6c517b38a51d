"""Write a bundle: into a folder beside the target, then renamed, so that a half-written bundle is never seen."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors.torch import save_file

import twinspire
from twinspire.bundle.bundle import Bundle
from twinspire.bundle.canaries import CANARIES, write_canaries
from twinspire.bundle.manifest import FILTERS, IDS, ITEMS, LEXICAL, MANIFEST, MEMORY, TREND, Manifest, checksums, sha256
from twinspire.errors import BundleError, EnvironmentProblem
from twinspire.features.ids import ItemIds
from twinspire.features.spec import Category, History, Number
from twinspire.features.store import file_name
from twinspire.index.filters import FilterIndex
from twinspire.index.hybrid import Fusion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.dataset import Dataset
    from twinspire.features.encode import Encoded
    from twinspire.features.history import Events
    from twinspire.features.log import Positives
    from twinspire.index.build import IndexSpec
    from twinspire.index.filters import Kind
    from twinspire.index.lexical import LexicalIndex
    from twinspire.index.memory import QueryMemory
    from twinspire.index.vectors import VectorIndex
    from twinspire.model import Architecture, TwoTower
    from twinspire.text import Tokeniser

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHOWN = ("item_id", "title", "brand", "category", "price")


@dataclass(frozen=True)
class Parts:
    """What a fit made, to be written as one bundle."""

    dataset: Dataset
    encoded: Encoded
    positives: Positives
    architecture: Architecture
    model: TwoTower
    vectors: NDArray[np.float32]  # (n, D)
    index: VectorIndex
    index_spec: IndexSpec
    config: dict[str, Any]
    training: dict[str, Any]
    run_id: str | None
    lexical: LexicalIndex | None = None
    memory: QueryMemory | None = None
    trend: NDArray[np.float32] | None = None
    fusion: Fusion = field(default_factory=Fusion)
    filters: dict[str, Kind] = field(default_factory=dict)
    vectors_file: Path | None = None  # the .npy file of `vectors`, where they are memory-mapped from one


def write_bundle(parts: Parts, target: Path) -> Manifest:
    """Write the bundle `target`, replacing one that is there."""
    with _beside(target) as folder:
        dictionaries = parts.encoded.dictionaries
        dictionaries.save(folder)
        save_file(parts.model.state_dict(), folder / "model.safetensors")
        parts.index.save(folder / "index.faiss")
        _save_vectors(parts, folder / "item_vectors.npy")
        _items(parts).write_ipc(folder / ITEMS, compression="uncompressed")
        (folder / IDS).mkdir()
        ItemIds.of(parts.dataset.items["item_id"]).save(folder / IDS / IDS)
        _users(parts).write_parquet(folder / "users.parquet")
        _queries(parts).write_parquet(folder / "queries.parquet")
        _save_history(parts, folder)
        if parts.lexical is not None and parts.fusion.lexical:
            parts.lexical.save(folder / LEXICAL)
        if parts.memory is not None and parts.fusion.memory:
            parts.memory.save(folder / MEMORY)
        if parts.trend is not None and parts.fusion.trend:
            np.save(folder / TREND, parts.trend)
        if parts.filters:
            FilterIndex.build(parts.dataset.items, parts.filters).save(folder / FILTERS)
        manifest = _manifest(parts, target.name, dictionaries.tokeniser, folder)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        write_canaries(Bundle.load(folder, verify=False), folder)
        manifest = manifest.model_copy(update={"files": {**manifest.files, CANARIES: sha256(folder / CANARIES)}})
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


def check_target(target: Path) -> None:
    """Errors: BundleError where `target` is something other than a bundle, an empty folder or nothing."""
    if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target}: exists and is no bundle; give --out another name")


def _manifest(parts: Parts, name: str, tokeniser: Tokeniser, folder: Path) -> Manifest:
    meta = parts.encoded.meta
    created = datetime.now(UTC)
    return Manifest(
        name=name,
        version=created.strftime("%Y%m%dT%H%M%SZ"),
        created=created.isoformat(),
        twinspire=twinspire.__version__,
        architecture=parts.architecture,
        config=parts.config,
        tokeniser_version=tokeniser.version,
        tokeniser_fingerprint=tokeniser.fingerprint,
        dataset_fingerprint=meta.fingerprint,
        items=len(parts.vectors),
        positives=meta.positives,
        trained_until=meta.trained_until,
        index=parts.index_spec,
        fusion=parts.fusion,
        filters=parts.filters,
        training=parts.training,
        mlflow_run_id=parts.run_id,
        files=checksums(folder),
    )


def _items(parts: Parts) -> pl.DataFrame:
    """What is shown of an item, and its clicks in training."""
    items = parts.dataset.items
    clicks = parts.positives.item_clicks(len(items))
    return items.select([column for column in SHOWN if column in items.columns]).with_columns(
        pl.Series("clicks", clicks)
    )


def _users(parts: Parts) -> pl.DataFrame:
    """Profile columns that the query tower reads, and each user's last events."""
    positives, features = parts.positives, parts.encoded.dictionaries.config
    read = [feature.column for feature in features.query if isinstance(feature, Category | Number)]
    columns = [column for column in read if column != "user_id"]
    everyone = np.arange(len(positives.user_ids))
    events = positives.events.last_of_each_kind(everyone, positives.events.offsets[1:], features.remembered)
    users = pl.DataFrame({"user_id": positives.user_ids, "history": _lists(events)})
    if parts.dataset.users is not None and columns:
        users = users.join(
            parts.dataset.users.select("user_id", *columns), on="user_id", how="left", maintain_order="left"
        )
    return users


def _lists(events: Events) -> pl.Series:
    """Each user's events as a list of `item`, `kind` and `time`, (U,)."""
    lengths = np.diff(events.offsets)
    flat = pl.DataFrame({"item": events.items, "kind": events.kinds, "time": events.times}).to_struct("history")
    owner = pl.Series("user", np.repeat(np.arange(len(lengths)), lengths))
    lists = pl.DataFrame([owner, flat]).group_by("user", maintain_order=True).all()
    every = pl.DataFrame({"user": np.arange(len(lengths))})
    return every.join(lists, on="user", how="left", maintain_order="left")["history"].fill_null([])


def _save_vectors(parts: Parts, path: Path) -> None:
    """Link the file of the vectors, or copy it where it lies on another disk; they are gigabytes."""
    if parts.vectors_file is None:
        np.save(path, parts.vectors)
        return
    try:
        path.hardlink_to(parts.vectors_file)
    except OSError:
        shutil.copyfile(parts.vectors_file, path)


def _queries(parts: Parts) -> pl.DataFrame:
    """Training queries in normal form and how often each was clicked: for slices, and to say what is known."""
    clicks = np.bincount(parts.positives.query, minlength=len(parts.positives.queries)).astype(np.int64)
    return pl.DataFrame({"query": parts.positives.queries, "clicks": clicks})


def _save_history(parts: Parts, folder: Path) -> None:
    (folder / "history").mkdir()
    store = parts.encoded.store
    for table in {f.table("query") for f in parts.encoded.dictionaries.config.query if isinstance(f, History)}:
        store.items[table].save(folder / "history" / file_name(table))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place at the end; nothing is left where writing fails."""
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        if target.exists():
            target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        # FAISS, Arrow and safetensors have errors of their own for it; the system's words are in all of them.
        if any(os.strerror(number) in str(error) for number in FULL):
            raise EnvironmentProblem(
                f"{target}: no space for it; nothing of it is left, and what was there stays. Free some, and give the "
                "same command again"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
