"""Embed the catalogue with the item tower: Ray Data over an actor pool, each actor with its own copy of the model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.data
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import load_file, save_file

from twinspire.features.store import FeatureStore
from twinspire.model import Architecture, TwoTower, to_bags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.index.config import IndexConfig

BATCH_ROWS = 4096


class EmbedItems:
    """An actor's work: item rows to vectors. Runs without Ray as any callable."""

    def __init__(self, store: str, weights: str, architecture: str) -> None:
        torch.set_num_threads(1)
        self.store = FeatureStore.load(Path(store))
        self.model = TwoTower(Architecture.model_validate_json(architecture))
        self.model.load_state_dict(load_file(weights))
        self.model.eval()

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """`id` (M,) to `id` and `vector` (M, D) f32."""
        rows = batch["id"]
        return {"id": rows, "vector": self.model.items(to_bags(self.store.item_features(rows))).numpy()}


def embed_catalogue(
    model: TwoTower, architecture: Architecture, store: Path, config: IndexConfig, scratch: Path
) -> NDArray[np.float32]:
    """Vectors of all items (n, D) f32, in row order. Ray must be connected; `scratch` is a folder the actors can
    read."""
    count = FeatureStore.load(store).n_items
    vectors = np.zeros((count, architecture.config.dim), np.float32)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        weights = str(Path(folder) / "model.safetensors")
        save_file(model.state_dict(), weights)
        source = ray.data.range(count, override_num_blocks=max(1, min(count // BATCH_ROWS, 200)))
        embedded = source.map_batches(
            EmbedItems,
            fn_constructor_args=(str(store), weights, architecture.model_dump_json()),
            compute=ray.data.ActorPoolStrategy(size=config.actors),
            batch_size=BATCH_ROWS,
            num_cpus=0.5,
        )
        batches = embedded.iter_batches(batch_size=None, batch_format="numpy")
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
            task = bar.add_task("embed the catalogue", total=count)
            for batch in batches:
                vectors[batch["id"]] = batch["vector"]
                bar.advance(task, len(batch["id"]))
    return vectors
