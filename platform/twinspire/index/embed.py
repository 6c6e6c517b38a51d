"""Embed the catalogue with the item tower: Ray Data over an actor pool, each actor with its own copy of the model.

Each actor writes what it embeds as part files, so that vectors neither travel through the driver nor stay in anyone's
memory, and a killed job goes on with the parts that are missing.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.data
import torch
from safetensors.torch import load_file, save

from twinspire.features.store import FeatureStore
from twinspire.index.progress import progress
from twinspire.model import Architecture, TwoTower, to_bags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.index.config import IndexConfig

BATCH_ROWS = 4096
PART_ROWS = 262_144
PARTS_AN_ACTOR = 4  # at least, so that none waits long for the last
VECTORS, WEIGHTS, PARTS = "item_vectors.npy", "model.safetensors", "parts"


class EmbedItems:
    """An actor's work: a range of item rows to a part file of vectors. Runs without Ray as any callable."""

    def __init__(self, store: str, folder: str, architecture: str) -> None:
        torch.set_num_threads(1)
        self.folder = Path(folder)
        self.store = FeatureStore.load(Path(store))
        self.architecture = Architecture.model_validate_json(architecture)
        self.model = TwoTower(self.architecture)
        self.model.load_state_dict(load_file(self.folder / WEIGHTS))
        self.model.eval()

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One part's number `part` (1,), first row `first` (1,) and the one after its last, `stop` (1,), to `rows`."""
        number, first, stop = (int(batch[name][0]) for name in ("part", "first", "stop"))
        vectors = np.empty((stop - first, self.architecture.config.dim), np.float32)
        for start in range(first, stop, BATCH_ROWS):
            rows = np.arange(start, min(start + BATCH_ROWS, stop))
            vectors[rows - first] = self.model.items(to_bags(self.store.item_features(rows))).numpy()
        path = _part(self.folder, number)
        beside = path.with_suffix(".new")
        with beside.open("wb") as file:
            np.save(file, vectors)
        beside.replace(path)
        return {"rows": np.array([stop - first])}


def embed_catalogue(
    model: TwoTower, architecture: Architecture, store: Path, config: IndexConfig, folder: Path
) -> NDArray[np.float32]:
    """Vectors of all items (n, D) f32, in row order, memory-mapped from `item_vectors.npy` in `folder`.

    Ray must be connected, and the actors must be able to write into `folder`. What lies there of the same model is not
    embedded again; of another model, all that lies there is thrown away.
    """
    _begin(model, folder)
    target = folder / VECTORS
    if not target.exists():
        count = FeatureStore.load(store).n_items
        size = min(max(math.ceil(count / (PARTS_AN_ACTOR * config.actors)), BATCH_ROWS), PART_ROWS)
        spans = [(first, min(first + size, count)) for first in range(0, count, size)]
        _embed(spans, (str(store), str(folder), architecture.model_dump_json()), config.actors, folder)
        _assemble(spans, folder, (count, architecture.config.dim))
    vectors: NDArray[np.float32] = np.load(target, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return vectors


def _begin(model: TwoTower, folder: Path) -> None:
    """Keep what lies in `folder` if it is of this model."""
    weights, kept = save(model.state_dict()), folder / WEIGHTS
    if kept.exists() and kept.read_bytes() == weights:
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / PARTS).mkdir(parents=True)
    beside = kept.with_suffix(".new")
    beside.write_bytes(weights)
    beside.replace(kept)


def _embed(spans: list[tuple[int, int]], arguments: tuple[str, ...], actors: int, folder: Path) -> None:
    """Embed the rows of those spans whose parts are missing."""
    missing = [
        {"part": number, "first": first, "stop": stop}
        for number, (first, stop) in enumerate(spans)
        if not _part(folder, number).exists()
    ]
    total = spans[-1][1] if spans else 0
    with progress("embed the catalogue", total) as done:
        done(total - sum(one["stop"] - one["first"] for one in missing))
        if not missing:
            return
        embedded = ray.data.from_items(missing, override_num_blocks=len(missing)).map_batches(
            EmbedItems,
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(missing))),
            batch_size=1,
            num_cpus=0.5,
        )
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            done(int(batch["rows"].sum()))


def _assemble(spans: list[tuple[int, int]], folder: Path, shape: tuple[int, int]) -> None:
    """All parts as one file, a part at a time in memory."""
    beside = folder / f"{VECTORS}.new"
    with beside.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for number in range(len(spans)):
            np.load(_part(folder, number), allow_pickle=False).tofile(file)
    beside.replace(folder / VECTORS)
    shutil.rmtree(folder / PARTS)


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"part-{number:05}.npy"
