"""Fit: from a dataset to a bundle."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console
from safetensors.torch import load_file, save_file

from pipelines.figures import log_recall
from twinspire import cluster, dataset
from twinspire.bundle import Manifest, Parts, check_target, tidy, write_bundle
from twinspire.bundle.earlier import WARM_STARTS, Earlier, begins_warm
from twinspire.cache import cache_folder
from twinspire.evaluation.heads import measure_heads
from twinspire.features.dictionaries import item_text
from twinspire.features.encode import Encoded, encode
from twinspire.features.log import read_positives
from twinspire.files import replacing
from twinspire.index.build import build_index, check_factory
from twinspire.index.embed import VECTORS, embed_catalogue
from twinspire.index.filters import filterable
from twinspire.index.fuse import clicked_memory, clicked_trends, measure_fusion
from twinspire.index.lexical import LexicalIndex
from twinspire.teacher.encoder import load_encoder
from twinspire.teacher.kept import KeptVectors
from twinspire.teacher.lessons import Lessons, ask_teacher, fingerprint
from twinspire.training.build import architecture, new_model
from twinspire.training.distil import distil
from twinspire.training.mlflow_run import abandon_run, finish_run, flatten, log_manifest, log_metrics, start_run
from twinspire.training.run import Trained, check_devices, check_size, train
from twinspire.training.validation import query_vectors
from twinspire.work_folder import WorkFolder, claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.config import Config
    from twinspire.features.log import Positives
    from twinspire.model import TwoTower

PROBES = 500  # validation queries that measure the index
TITLE_ROUNDS = 2


def fit(
    data: Path | dataset.Dataset,
    out: Path,
    config: Config,
    *,
    quarantine: Path | None = None,
    teacher: Path | None = None,
    start: Path | None = None,
) -> Manifest:
    """Validate, encode, learn from the teacher, train, embed, index, write the bundle `out`; logs one MLflow run.

    `data` is a folder, or what was read from one. `start` is the folder of an earlier bundle, whose weights are begun
    with as `training.start` has it.

    `teacher` is the folder of a sentence encoder. Without clicks the towers learn from it alone, or without one from
    parts of the titles.

    Killed at any moment, or stopped with Ctrl-C, the same call goes on from the last checkpoint, in the same MLflow
    run: what it needs for that is kept beside `out`, in `.NAME.work`.
    Errors: any TwinspireError; no bundle is written then, and one that was there stays.
    """
    console = Console(stderr=True)
    out = out.absolute()
    check_target(out)
    check_devices(config.training)
    encoder = load_encoder(teacher) if teacher is not None else None
    taught_by = fingerprint(teacher) if teacher is not None else None
    earlier = Earlier.read(start) if start is not None else None
    source = data if isinstance(data, dataset.Dataset) else _read(data, config, quarantine, console)
    config = config.sized(len(source.items))
    check_factory(config.model.dim, config.index)
    filterable(source.items, config.index.filters)
    with claim(out) as work:
        tidy(out)
        _begin(work, source, config, taught_by, earlier, console)
        encoded, positives = _encode(source, config, work)
        check_size(encoded)
        _say_what_there_is(encoded, positives, len(source.items), encoder, console)
        with _mlflow_run(source, config, out, work, console) as (uri, run_id):
            warm = _warm(earlier, encoded, config, taught_by, console)
            job = _Job(source, encoded, positives, encoder, config, work.path, out, uri, run_id, taught_by, warm)
            return _train_and_write(job)


class _Job(NamedTuple):
    """All that a fit has in hand when learning begins."""

    source: dataset.Dataset
    encoded: Encoded
    positives: Positives
    encoder: Any
    config: Config
    work: Path
    out: Path
    uri: str
    run_id: str
    taught_by: str | None
    warm: Earlier | None  # whose weights are begun with


def _read(data: Path, config: Config, quarantine: Path | None, console: Console) -> dataset.Dataset:
    source = dataset.read(data, max_bad_share=config.dataset.max_bad_share, quarantine=quarantine)
    for name, table in source.report.tables.items():
        if table.bad_rows:
            console.print(f"{name}: {table.bad_rows:,} bad rows left out; they are in {table.quarantine}")
    return source


def _say_what_there_is(encoded: Encoded, positives: Positives, items: int, encoder: object, console: Console) -> None:
    meta = encoded.meta
    console.print(f"{meta.positives:,} positives of {len(positives.queries):,} queries over {items:,} items")
    if encoder and not meta.positives:
        console.print("no clicks: the towers learn from the teacher alone")
    elif meta.titles:
        console.print(f"few clicks: parts of titles serve as {meta.titles:,} more queries")
    supervised = {name: count for name, count in meta.supervision.items() if count}
    if supervised:
        console.print("supervision: " + ", ".join(f"{count:,} {name}" for name, count in supervised.items()))


def _lessons(job: _Job) -> Lessons:
    """What the teacher says of the titles and of the log's queries."""
    kept = KeptVectors(cache_folder() / "teachers" / str(job.taught_by)[:32])
    titles = item_text(job.source.items, job.encoded.dictionaries.config)
    clicks = np.bincount(job.positives.query, minlength=len(job.positives.queries))
    queries = job.positives.queries.gather(np.argsort(-clicks, kind="stable"))
    return ask_teacher(job.encoder, kept, titles, queries, job.config.model.dim, job.config.training.seed)


def _warm(
    earlier: Earlier | None, encoded: Encoded, config: Config, taught_by: str | None, console: Console
) -> Earlier | None:
    """The earlier bundle where its weights are begun with; None where training begins anew."""
    if earlier is None:
        return None
    warm, said = begins_warm(earlier, encoded, config, taught_by)
    console.print(f"start {said}")
    return earlier if warm else None


def _begin(
    work: WorkFolder,
    source: dataset.Dataset,
    config: Config,
    taught_by: str | None,
    earlier: Earlier | None,
    console: Console,
) -> None:
    """Go on with a fit of the same dataset, config and code, or begin anew."""
    before = work.resumable
    goes_on, given_up = work.begin(
        {
            "dataset": source.fingerprint,
            "config": config.model_dump(mode="json"),
            "teacher": taught_by,
            "start": earlier.checksum if earlier else None,
        }
    )
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
    console.print(f"MLflow run {run_id}", highlight=False)
    try:
        yield uri, run_id
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        finish_run(uri, run_id, "KILLED" if stopped else "FAILED")
        if work.resumable:
            console.print(f"the same command goes on from the last checkpoint, in {work.path}")
        raise
    finish_run(uri, run_id, "FINISHED")


def _train_and_write(job: _Job) -> Manifest:
    config, encoded, positives = job.config, job.encoded, job.positives
    dictionaries = encoded.dictionaries
    with cluster.session(workers=max(config.training.workers, config.index.actors)):
        cluster.require_shared(job.work)
        trained = _learn(job)
        towers = architecture(dictionaries, config.model)
        vectors = embed_catalogue(trained.model, towers, encoded.folder / "store", config.index, job.work / "index")
    probes = query_vectors(trained.model, encoded, PROBES)
    index, spec = build_index(vectors, probes, config.index, job.work / "index")
    text = dictionaries.text(item_text(job.source.items, dictionaries.config))  # whatever the item tower reads
    lexical = LexicalIndex.build(dictionaries, text, positives.item_clicks(len(vectors)))
    taught = job.encoder is not None
    searched = None if taught and not encoded.meta.positives else trained.searched
    if job.warm is not None:  # it saw the later clicks on which weights could be measured
        fusion = job.warm.manifest.fusion
    else:
        fusion = measure_fusion(searched, encoded, positives, lexical, config.retrieval, taught=taught)
    behind = job.warm.warm_starts + 1 if job.warm else 0
    summary: dict[str, Any] = {**trained.summary, "teacher": job.taught_by, WARM_STARTS: behind}
    if config.model.heads > 1 and len(probes):
        heads = measure_heads(probes, vectors)
        log_metrics(job.uri, job.run_id, heads.figures())
        summary["heads"] = heads.model_dump(mode="json")
    resolved = config.model_copy(update={"features": dictionaries.config})
    manifest = write_bundle(
        Parts(
            dataset=job.source,
            encoded=encoded,
            positives=positives,
            architecture=towers,
            model=trained.model,
            vectors=vectors,
            index=index,
            index_spec=spec,
            config=json.loads(resolved.model_dump_json()),
            training=summary,
            run_id=job.run_id,
            lexical=lexical,
            memory=clicked_memory(positives, fusion.half_life_days) if fusion.memory else None,
            trend=clicked_trends(positives, len(vectors), fusion.trend_days) if fusion.trend else None,
            fusion=fusion,
            filters=filterable(job.source.items, config.index.filters),
            vectors_file=job.work / "index" / VECTORS,
        ),
        job.out,
    )
    log_manifest(job.uri, job.run_id, manifest.model_dump(mode="json"))
    log_recall(manifest, job.work)
    return manifest


def _learn(job: _Job) -> Trained:
    """From the earlier weights, or the teacher, where there are some, then from the rows; without clicks the teacher is
    enough."""
    if job.warm is not None:
        return _go_on(job, job.warm)
    start = None
    if job.encoder is not None:
        start = job.work / "start.safetensors"
        model = _taught(job, start)
        if not job.encoded.meta.positives:
            return Trained(model, model, {"best_mrr": None, "best_round": 0, "history": []})
    config = job.config
    if not job.encoded.meta.positives:  # parts of titles have no later days on which more rounds could pay
        update = {"rounds": min(config.training.rounds, TITLE_ROUNDS), "refit": False}
        config = config.model_copy(update={"training": config.training.model_copy(update=update)})
    return train(job.encoded, config, job.work / "train", mlflow_uri=job.uri, run_id=job.run_id, start=start)


def _go_on(job: _Job, earlier: Earlier) -> Trained:
    """A few rounds over the whole log from the earlier weights. There is no window to validate on: they saw it."""
    training = job.config.training
    path = job.work / "start.safetensors"
    if not path.exists():
        with replacing(path) as beside:
            save_file(earlier.weights(job.encoded, job.source.items["item_id"], job.config), beside)
    slower = training.model_copy(update={"learning_rate": training.warm_learning_rate})
    return train(
        job.encoded,
        job.config.model_copy(update={"training": slower}),
        job.work / "train",
        mlflow_uri=job.uri,
        run_id=job.run_id,
        start=path,
        only_rounds=training.warm_rounds,
    )


def _taught(job: _Job, path: Path) -> TwoTower:
    """A model that has learnt the lessons; learnt once, as a fit that goes on reads it again."""
    if not path.exists():
        model, loss = distil(job.encoded, _lessons(job), job.config)
        log_metrics(job.uri, job.run_id, {"distil/loss": loss})
        with replacing(path) as beside:
            save_file(model.state_dict(), beside)
    model = new_model(job.encoded.dictionaries, job.config.model, seed=0, sparse=False)
    model.load_state_dict(load_file(path))
    return model.eval()


if __name__ == "__main__":
    from twinspire.cli import main

    main("fit")
