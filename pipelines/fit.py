"""Fit: from a dataset to a bundle."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from twinspire import cluster, dataset
from twinspire.bundle import Manifest, Parts, check_target, write_bundle
from twinspire.evaluation.heads import measure_heads
from twinspire.features.encode import encode
from twinspire.index.build import build_index, check_factory
from twinspire.index.embed import embed_catalogue
from twinspire.training.build import architecture
from twinspire.training.mlflow_run import finish_run, flatten, log_manifest, log_metrics, start_run
from twinspire.training.run import check_devices, check_size, train
from twinspire.training.validation import query_vectors

if TYPE_CHECKING:
    from twinspire.config import Config
    from twinspire.features.encode import Encoded
    from twinspire.features.log import Positives

PROBES = 500  # validation queries that measure the index


def fit(data: Path, out: Path, config: Config, *, quarantine: Path | None = None) -> Manifest:
    """Validate, encode, train, embed, index, write the bundle `out`; logs one MLflow run.

    Errors: any TwinspireError; no bundle is written then, and one that was there stays.
    """
    console = Console(stderr=True)
    out = out.absolute()
    check_target(out)
    check_factory(config.model.dim, config.index)
    check_devices(config.training)
    source = dataset.read(data, quarantine=quarantine, require_interactions=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".work", dir=out.parent)).absolute()
    try:
        encoded, positives = encode(
            source,
            config.features,
            config.log,
            config.text,
            work / "encoded",
            config.training.seed,
            supervision=config.supervision,
            impressions=config.negatives.kind == "impressions",
        )
        check_size(encoded)
        queries, items = len(positives.queries), len(source.items)
        console.print(f"{encoded.meta.positives:,} positives of {queries:,} queries over {items:,} items")
        supervised = {name: count for name, count in encoded.meta.supervision.items() if count}
        if supervised:
            console.print("supervision: " + ", ".join(f"{count:,} {name}" for name, count in supervised.items()))
        params = flatten(json.loads(config.model_dump_json()))
        uri, run_id = start_run(
            config.training.experiment, out.name, params, {"dataset_fingerprint": source.fingerprint}
        )
        try:
            manifest = _train_and_write(source, encoded, positives, config, work, out, uri, run_id)
        except BaseException:
            finish_run(uri, run_id, ok=False)
            raise
        finish_run(uri, run_id, ok=True)
        return manifest
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
