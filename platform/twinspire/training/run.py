"""Train on Ray: any number of workers, one MLflow run, one model at the end."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import ray.train
import ray.train.torch
import torch
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from twinspire import cluster
from twinspire.errors import DatasetError, EnvironmentProblem
from twinspire.model.sharding import check_torchrec
from twinspire.progress import Progress
from twinspire.training.build import new_model
from twinspire.training.checkpoints import SEARCHED, WEIGHTS, Checkpoints, read_progress, read_weights
from twinspire.training.mlflow_run import RoundLog
from twinspire.training.worker import train_worker

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.config import Config
    from twinspire.features.encode import Encoded
    from twinspire.model import TwoTower
    from twinspire.training.config import TrainingConfig

MIN_POSITIVES = 2
MIN_BATCH = 2


class Trained(NamedTuple):
    """`model` learnt from the whole log, `searched` from all but the validation window, so that what is measured there
    is honest. `summary` is where the training stood at its end: best round, validation metrics by round."""

    model: TwoTower
    searched: TwoTower
    summary: dict[str, Any]


def train(
    encoded: Encoded,
    config: Config,
    storage: Path,
    *,
    mlflow_uri: str,
    run_id: str,
    start: Path | None = None,
    only_rounds: int = 0,
) -> Trained:
    """Train on an encoded dataset, from the weights in `start` where there are some.

    With `only_rounds` there is no search for the best number of rounds: so many are trained on the whole log, and what
    counts as searched are the weights in `start`.

    `storage` keeps checkpoints, which every machine of the cluster must be able to write: where it has some already,
    training goes on from the newest, and so it does when a worker, a node or Ray Train's controller dies. Ray must be
    connected. Errors: DatasetError for a log too small to learn from; EnvironmentProblem when workers cannot start or
    keep dying without progress.
    """
    check_size(encoded)
    config = small_enough(config, min(encoded.meta.rows.values()))
    storage = storage.absolute()
    storage.mkdir(parents=True, exist_ok=True)
    progress_file = storage / "progress.json"
    checkpoints = Checkpoints(storage / "checkpoints")
    settings = {
        "config": config.model_dump_json(),
        "folder": str(encoded.folder),
        "checkpoints": str(checkpoints.folder),
        "mlflow_uri": mlflow_uri,
        "run_id": run_id,
        "progress_file": str(progress_file),
        "start": str(start or ""),
        "only_rounds": str(only_rounds),
    }
    with _ProgressBar(progress_file):
        _train_until_done(settings, config.training, storage, checkpoints)
    done = checkpoints.newest()
    assert done is not None
    progress = read_progress(done)
    RoundLog(mlflow_uri, run_id).bring(progress.history)
    inside_round = ("step", "loss")
    summary = {name: value for name, value in asdict(progress).items() if name not in inside_round}
    summary |= {"best_mrr": None} if only_rounds else {}
    return Trained(_model(encoded, config, done, WEIGHTS), _model(encoded, config, done, SEARCHED), summary)


def _model(encoded: Encoded, config: Config, checkpoint: Path, name: str) -> TwoTower:
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=False)
    model.load_state_dict(read_weights(checkpoint, name))
    return model.eval()


def _train_until_done(
    settings: dict[str, str], training: TrainingConfig, storage: Path, checkpoints: Checkpoints
) -> None:
    """Start workers, again and again where they or their controller die, each time from the newest checkpoint."""
    failures, reached = 0, checkpoints.newest()
    cluster.keep_data_actors_here()
    while True:
        owner = uuid.uuid4().hex
        checkpoints.own(owner)
        trainer = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config=settings | {"owner": owner},
            scaling_config=ray.train.ScalingConfig(num_workers=training.workers, use_gpu=training.device == "cuda"),
            run_config=ray.train.RunConfig(name=f"train-{owner}", storage_path=str(storage)),
        )
        try:
            return _fit(trainer)
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            failures = failures + 1 if checkpoints.newest() == reached else 1
            reached = checkpoints.newest()
            if failures > training.max_failures:
                last = str(error).strip().splitlines()[-1]
                raise EnvironmentProblem(f"training failed: {last}") from error


def check_size(encoded: Encoded) -> None:
    """Errors: DatasetError where there are neither clicks nor titles to learn from."""
    meta = encoded.meta
    if meta.positives + meta.titles < MIN_POSITIVES:
        raise DatasetError(
            f"nothing to learn from: the log has {meta.positives} positives, the titles give {meta.titles} more; give "
            "clicks or titles with words (log.fill_up_to says whether titles count)"
        )


def check_devices(config: TrainingConfig) -> None:
    """Errors: EnvironmentProblem for sharded tables without TorchRec, and for more GPUs than there are, where Ray is to
    run on this machine alone.

    Ray would wait for them for ever. A cluster may still start them.
    """
    if config.tables == "sharded":
        check_torchrec()
    if config.device != "cuda" or os.environ.get("RAY_ADDRESS"):
        return
    there = torch.cuda.device_count()
    if there < config.workers:
        raise EnvironmentProblem(
            f"training.device: cuda needs a GPU for each of {config.workers} workers, and PyTorch sees {there} here; "
            "use cpu, or name a cluster in RAY_ADDRESS"
        )


def small_enough(config: Config, rows: int) -> Config:
    """The config with a batch size that a worker's share of `rows` can fill: only whole batches are learned from."""
    training = config.training
    share = max(rows // training.workers, MIN_BATCH)
    if training.batch_size <= share:
        return config
    return config.model_copy(update={"training": training.model_copy(update={"batch_size": share})})


def _fit(trainer: ray.train.torch.TorchTrainer) -> None:
    """Fit; Ctrl-C stays Ctrl-C, during the training and after: Ray Train takes the signal and makes it an exit."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


class _ProgressBar:
    """Shows what rank 0 writes into the progress file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns) as bar:
            task = bar.add_task("train: starting workers", total=None, note="")
            while not self._stop.wait(0.3):
                try:
                    state = json.loads(self.path.read_text())
                except (OSError, ValueError):
                    continue
                name = "train" if state["phase"] == "search" else "train on the whole log"
                note = f"round {min(int(state['done']) + 1, state['rounds'])} of at most {state['rounds']}"
                note += f", best MRR {state['mrr']:.3f}" if state["mrr"] >= 0 else ""
                bar.update(task, description=name, completed=state["done"], total=state["rounds"], note=note)
            bar.update(task, description="train: done", completed=1, total=1)
