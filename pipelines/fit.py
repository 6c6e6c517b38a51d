"""Fit: from a dataset to a bundle."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from twinspire import cluster, dataset
from twinspire.bundle import Manifest, Parts, check_target, tidy, write_bundle
from twinspire.evaluation.heads import measure_heads
from twinspire.features.encode import Encoded, encode
from twinspire.features.log import read_positives
from twinspire.index.build import build_index, check_factory
from twinspire.index.embed import embed_catalogue
from twinspire.training.build import architecture
from twinspire.training.mlflow_run import abandon_run, finish_run, flatten, log_manifest, log_metrics, start_run
from twinspire.training.run import check_devices, check_size, train
from twinspire.training.validation import query_vectors
from twinspire.work_folder import WorkFolder, claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.config import Config
    from twinspire.features.log import Positives

PROBES = 500  # validation queries that measure the index


def fit(data: Path, out: Path, config: Config, *, quarantine: Path | None = None) -> Manifest:
    """Validate, encode, train, embed, index, write the bundle `out`; logs one MLflow run.

    Killed at any moment, or stopped with Ctrl-C, the same call goes on from the last checkpoint, in the same MLflow
    run: what it needs for that is kept beside `out`, in `.NAME.work`.
    Errors: any TwinspireError; no bundle is written then, and one that was there stays.
    """
    console = Console(stderr=True)
    out = out.absolute()
    check_target(out)
    check_factory(config.model.dim, config.index)
    check_devices(config.training)
    source = dataset.read(data, quarantine=quarantine, require_interactions=True)
    with claim(out) as work:
        tidy(out)
        _begin(work, source, config, console)
        encoded, positives = _encode(source, config, work)
        check_size(encoded)
        queries, items = len(positives.queries), len(source.items)
        console.print(f"{encoded.meta.positives:,} positives of {queries:,} queries over {items:,} items")
        supervised = {name: count for name, count in encoded.meta.supervision.items() if count}
        if supervised:
            console.print("supervision: " + ", ".join(f"{count:,} {name}" for name, count in supervised.items()))
        with _mlflow_run(source, config, out, work, console) as (uri, run_id):
            return _train_and_write(source, encoded, positives, config, work.path, out, uri, run_id)


def _begin(work: WorkFolder, source: dataset.Dataset, config: Config, console: Console) -> None:
    """Go on with a fit of the same dataset, config and code, or begin anew."""
    before = work.resumable
    goes_on, given_up = work.begin({"dataset": source.fingerprint, "config": config.model_dump(mode="json")})
    if goes_on and before:
        console.print("going on from the last checkpoint of a fit that did not end")
    if given_up is not None:
        console.print("an unfinished fit of other data, another config or other code is thrown away")
        abandon_run(config.training.experiment, given_up)


def _encode(source: dataset.Dataset, config: Config, work: WorkFolder) -> tuple[Encoded, Positives]:
    """Encode, or take what was encoded before: a checkpoint's table rows mean what that encoding says."""
    folder, beside = work.path / "encoded", work.path / "encoded.new"
    if folder.exists():
        return Encoded.open(folder), read_positives(source, config.log)
    _, positives = encode(
        source,
        config.features,
        config.log,
        config.text,
        beside,
        config.training.seed,
        supervision=config.supervision,
        impressions=config.negatives.kind == "impressions",
    )
    beside.rename(folder)
    return Encoded.open(folder), positives


@contextmanager
def _mlflow_run(
    source: dataset.Dataset, config: Config, out: Path, work: WorkFolder, console: Console
) -> Iterator[tuple[str, str]]:
    """The fit's MLflow run, of now or of before: FINISHED at the end, KILLED after Ctrl-C, FAILED otherwise."""
    params = flatten(config.model_dump(mode="json"))
    tags = {"dataset_fingerprint": source.fingerprint}
    uri, run_id = start_run(config.training.experiment, out.name, params, tags, work.fit_id)
    try:
        yield uri, run_id
    except BaseException as error:
        finish_run(uri, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        if work.resumable:
            console.print(f"the same command goes on from the last checkpoint, in {work.path}")
        raise
    finish_run(uri, run_id, "FINISHED")


def _train_and_write(
    source: dataset.Dataset,
    encoded: Encoded,
    positives: Positives,
    config: Config,
    work: Path,
    out: Path,
    uri: str,
    run_id: str,
) -> Manifest:
    with cluster.session(workers=max(config.training.workers, config.index.actors)):
        model, summary = train(encoded, config, work / "train", mlflow_uri=uri, run_id=run_id)
        towers = architecture(encoded.dictionaries, config.model)
        vectors = embed_catalogue(model, towers, encoded.folder / "store", config.index, work)
    probes = query_vectors(model, encoded, PROBES)
    index, spec = build_index(vectors, probes, config.index)
    if config.model.heads > 1 and len(probes):
        heads = measure_heads(probes, vectors)
        log_metrics(uri, run_id, heads.figures())
        summary = {**summary, "heads": heads.model_dump(mode="json")}
    resolved = config.model_copy(update={"features": encoded.dictionaries.config})
    manifest = write_bundle(
        Parts(
            dataset=source,
            encoded=encoded,
            positives=positives,
            architecture=towers,
            model=model,
            vectors=vectors,
            index=index,
            index_spec=spec,
            config=json.loads(resolved.model_dump_json()),
            training=summary,
            run_id=run_id,
        ),
        out,
    )
    log_manifest(uri, run_id, manifest.model_dump(mode="json"))
    return manifest
