"""What supervision does to a model, on small shops with a planted wrong and a planted right."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from twinspire import dataset
from twinspire.config import Config, load_config
from twinspire.dataset import Dataset
from twinspire.features.encode import Encoded, encode
from twinspire.model import best_head, to_bags
from twinspire.simulation import simulate
from twinspire.training.batches import Columns, split
from twinspire.training.build import new_model
from twinspire.training.feed import ReadPart
from twinspire.training.learner import Learner
from twinspire.training.validation import item_vectors

SMALL = ("model.dim=16", "model.hidden=16", "negatives.count=64", "training.batch_size=32")
NEW_QUERY = "something to sleep in"


@pytest.fixture(scope="module", autouse=True)
def _sparse_tensors_are_not_checked() -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()  # as the worker has it; torch warns where nothing is said


def passes(encoded: Encoded, config: Config, part: str, rounds: int) -> Iterator[Columns]:
    size = config.training.batch_size
    read = ReadPart(config.negatives, size, encoded.store.n_items, 0, supervision=config.supervision)
    path = str(encoded.folder / "rows" / part / "part-00000.parquet")
    for round_ in range(rounds):
        yield from split(read({"path": np.array([path]), "round": np.array([round_]), "part": np.array([0])}), size)


def learn(
    source: Dataset,
    folder: Path,
    settings: tuple[str, ...],
    part: str = "all",
    rounds: int = 4,
    config: str | None = None,
):
    """Encode and train; gives the encoded dataset, the model and the losses."""
    config = load_config(config, settings)
    tables = (config.features, config.log, config.text, folder)
    more = {"supervision": config.supervision, "impressions": config.negatives.kind == "impressions"}
    encoded, _ = encode(source, *tables, 0, **more)
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=True)
    steps = rounds * (encoded.meta.rows[part] // config.training.batch_size)
    learner = Learner(model, encoded.store, encoded.clicks(part), config, steps)
    losses = [float(learner.step(batch)) for batch in passes(encoded, config, part, rounds)]
    return encoded, model.eval(), losses


@torch.inference_mode()
def place(encoded: Encoded, model: torch.nn.Module, query: int, items: np.ndarray) -> float:
    """Mean rank of items for a query row, asked by nobody in particular."""
    features = encoded.store.query_features(np.array([query]), np.array([-1]), np.array([0]))
    vectors = item_vectors(model, encoded.store, np.arange(encoded.store.n_items))
    scores = best_head(model.queries(to_bags(features)), vectors)[0].numpy()
    return float((scores[None, :] >= scores[items][:, None]).sum(axis=1).mean())


@pytest.mark.parametrize("kind", ["softmax", "hinge"])
def test_planted_pairs_change_the_ranking(tiny_dataset: Path, tmp_path: Path, kind: str) -> None:
    """A person says what a query means that no one has typed, and that well liked mugs are not what `mug` means."""
    source = dataset.read(tiny_dataset)
    titles = source.items["title"]
    tents, wrong = (np.flatnonzero(titles.str.contains(f"{words}$")) for words in ("tent", "acme .* mug"))
    rows = [(NEW_QUERY, source.items["item_id"][int(item)], "positive", "test") for item in tents[:10]]
    rows += [("mug", source.items["item_id"][int(item)], "negative", "test") for item in wrong]
    table = pl.DataFrame(rows, schema=["query", "item_id", "label", "source"], orient="row")
    told = replace(source, supervision=table)
    settings = (*SMALL, f"loss.kind={kind}", "training.learning_rate=0.05", "log.half_life_days=null")
    heavy = ("supervision.repeats=20", "supervision.positives=0.2", "supervision.negatives=0.5")
    none = ("supervision.negatives=0", "supervision.repeats=1", "supervision.positives=0.0001")
    encoded, model, _ = learn(told, tmp_path / "told", (*settings, *heavy))
    plain_encoded, plain, _ = learn(told, tmp_path / "plain", (*settings, *none))
    assert plain_encoded.meta.supervision == {"positives": 0, "labelled": 0, "skipped": 0}
    queries = len(encoded.store.queries["words"]) - 1  # the last one: only the table names it
    mug = next(
        int(row["query"])
        for row in pl.read_parquet(encoded.folder / "rows" / "all" / "*.parquet").iter_rows(named=True)
        if titles[int(row["item"])].endswith("mug") and len(encoded.store.queries["words"].row(row["query"])) == 1
    )
    assert place(encoded, model, queries, tents) < 0.5 * place(plain_encoded, plain, queries, tents)
    assert place(encoded, model, mug, wrong) > 1.15 * place(plain_encoded, plain, mug, wrong)


@torch.inference_mode()
def told_apart(encoded: Encoded, model: torch.nn.Module) -> float:
    """AUC of the clicked item against the unclicked ones of its own page, mean over rows."""
    rows = pl.read_parquet(encoded.folder / "rows" / "training" / "*.parquet").filter(
        pl.col("impressions").list.len() > 0
    )
    pages = rows.select("query", "user", "stop", "item", "impressions").with_row_index("row").explode("impressions")
    columns = [pages[name].to_numpy() for name in ("query", "user", "stop")]
    vectors = item_vectors(model, encoded.store, np.arange(encoded.store.n_items))
    scores = best_head(model.queries(to_bags(encoded.store.query_features(*columns))), vectors).numpy()
    at = np.arange(len(pages))
    won = scores[at, pages["item"].to_numpy()] > scores[at, pages["impressions"].to_numpy()]
    return float(pages.select("row", won=pl.Series(won)).group_by("row").agg(pl.col("won").mean())["won"].mean())


def test_dssm_learns_to_tell_clicked_from_unclicked_impressions(tmp_path: Path) -> None:
    simulate(tmp_path / "market", items=400, users=200, interactions=20_000, seed=0)
    source = dataset.read(tmp_path / "market")
    faster = ("training.learning_rate=0.05", "training.batch_size=32")
    encoded, model, losses = learn(source, tmp_path / "e", faster, part="training", config="dssm")
    start = new_model(encoded.dictionaries, load_config("dssm").model, seed=0, sparse=False).eval()
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    assert told_apart(encoded, model) > told_apart(encoded, start) + 0.1
    for batch in passes(encoded, load_config("dssm", faster), "all", 1):
        assert batch["random"].shape[1] == batch["extra"].shape[1] == 0
