"""Train on Ray: any number of workers, one MLflow run, one model at the end."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.data
import ray.train
import ray.train.torch
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import load_file

from twinspire.errors import DatasetError, EnvironmentProblem
from twinspire.training.build import new_model
from twinspire.training.feed import ReadPart, stream
from twinspire.training.worker import train_worker

if TYPE_CHECKING:
    from twinspire.config import Config
    from twinspire.features.encode import Encoded
    from twinspire.model import TwoTower
    from twinspire.training.config import TrainingConfig

MIN_POSITIVES = 2
MIN_BATCH = 2


def train(
    encoded: Encoded, config: Config, storage: Path, *, mlflow_uri: str, run_id: str
) -> tuple[TwoTower, dict[str, Any]]:
    """Train on an encoded dataset; gives the model and a summary (best round, validation metrics by round).

    `storage` keeps checkpoints: after a worker's death the run goes on from the last one. Ray must be connected.
    Errors: DatasetError for a log too small to learn from; EnvironmentProblem when workers cannot start or keep dying.
    """
    check_size(encoded)
    config = small_enough(config, encoded.meta.training)
    progress_file = storage / "progress.json"
    storage.mkdir(parents=True, exist_ok=True)
    settings = {
        "config": config.model_dump_json(),
        "folder": str(encoded.folder),
        "mlflow_uri": mlflow_uri,
        "run_id": run_id,
        "progress_file": str(progress_file),
    }
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=settings,
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.training.workers, use_gpu=config.training.device == "cuda"
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(storage.absolute()),
            failure_config=ray.train.FailureConfig(max_failures=config.training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
        datasets=_datasets(encoded, config),
        dataset_config=ray.train.DataConfig(execution_options=_in_order()),
    )
    with _ProgressBar(progress_file):
        result = _fit(trainer)
    with result.checkpoint.as_directory() as folder:
        model = new_model(encoded.dictionaries, config.model, seed=0, sparse=False)
        model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        summary = json.loads((Path(folder) / "progress.json").read_text())
    return model.eval(), summary


def check_size(encoded: Encoded) -> None:
    """Errors: DatasetError for a log too small to learn from."""
    if encoded.meta.positives < MIN_POSITIVES:
        raise DatasetError(
            f"interactions: {encoded.meta.positives} positives; training needs {MIN_POSITIVES} at the least"
        )


def check_devices(config: TrainingConfig) -> None:
    """Errors: EnvironmentProblem for more GPUs than there are, where Ray is to run on this machine alone.

    Ray would wait for them for ever. A cluster may still start them.
    """
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


def _datasets(encoded: Encoded, config: Config) -> dict[str, ray.data.Dataset]:
    training = config.training
    rows = encoded.folder / "rows"
    read = ReadPart(
        config.negatives,
        training.batch_size,
        encoded.store.n_items,
        training.seed,
        supervision=config.supervision,
    )
    return {part: stream(rows / part, read, training.rounds) for part in ("training", "all")}


def _in_order() -> ray.data.ExecutionOptions:
    options = ray.data.ExecutionOptions()
    options.preserve_order = True
    return options


def _fit(trainer: ray.train.torch.TorchTrainer) -> Any:
    """Fit; Ctrl-C stays Ctrl-C, during the training and after: Ray Train takes the signal and makes it an exit."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        last = str(error).strip().splitlines()[-1]
        raise EnvironmentProblem(f"training failed: {last}") from error
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
