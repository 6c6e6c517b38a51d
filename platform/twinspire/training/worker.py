"""What each Ray Train worker runs: rounds over its shard, validation, early stopping, then a refit on the whole log."""

from __future__ import annotations

import copy
import itertools
import json
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import ray.train
import ray.train.torch
import torch
import torch.distributed
from safetensors.torch import save_file

from twinspire.config import Config
from twinspire.features.encode import Encoded
from twinspire.training.build import new_model
from twinspire.training.feed import batches
from twinspire.training.learner import Learner
from twinspire.training.validation import ValidationMetrics, validate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.model import TwoTower
    from twinspire.training.batches import Columns

LOG_EVERY_SECONDS = 0.5


@dataclass
class Progress:
    """Where the run stands; part of every checkpoint."""

    phase: str = "search"  # then "refit", then "done"
    round: int = 0
    best_round: int = 0
    best_mrr: float = -1.0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of a worker. `settings`: config (JSON), folder, mlflow_uri, run_id, progress_file."""
    config = Config.model_validate_json(settings["config"])
    context = ray.train.get_context()
    torch.set_num_threads(config.training.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    _Worker(config, settings, context.get_world_rank(), context.get_world_size()).run()


class _Worker:
    def __init__(self, config: Config, settings: dict[str, Any], rank: int, world: int) -> None:
        self.config, self.settings, self.rank, self.world = config, settings, rank, world
        self.encoded = Encoded.open(Path(settings["folder"]))
        self.store = self.encoded.store
        self.window = self.encoded.validation
        self.device = str(ray.train.torch.get_device()) if config.training.device == "cuda" else "cpu"
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._restored: dict[str, Any] = {}
        self._told = 0.0

    def run(self) -> None:
        with _checkpoint_folder() as folder:
            self._restore(folder)
        if self.progress.phase == "done":  # it died after its last report
            return
        if self.progress.phase == "search":
            self._search()
        if self.progress.phase == "refit":
            self._refit()
        self._report({"done": 1.0}, final=True)

    def _search(self) -> None:
        """Rounds over the training rows until validation stops improving."""
        training = self.config.training
        self._start("training", training.rounds)
        stream = self._batches("training")
        steps = self._steps(self.encoded.meta.rows["training"])
        while self.progress.round < training.rounds and self._waited() < training.patience:
            self._round(itertools.islice(stream, steps), steps, training.rounds)
            metrics = self._validate()
            if metrics.mrr > self.progress.best_mrr:
                self.progress.best_mrr, self.progress.best_round = metrics.mrr, self.progress.round
                self.best = copy.deepcopy(self._module().state_dict())
            self._report(metrics._asdict() | {"round": self.progress.round})
        self._module().load_state_dict(self.best)
        if training.refit:
            self.progress.phase, self.progress.round = "refit", 0

    def _refit(self) -> None:
        """As many rounds over all positives as were best, from a new start."""
        rounds = max(self.progress.best_round, 1)
        self._start("all", rounds)
        stream = self._batches("all")
        steps = self._steps(self.encoded.meta.rows["all"])
        while self.progress.round < rounds:
            self._round(itertools.islice(stream, steps), steps, rounds)
            self._report({"refit_round": self.progress.round})

    def _start(self, part: str, rounds: int) -> None:
        """A learner for this phase: a new one, or the restored one where a checkpoint of the phase was found."""
        training = self.config.training
        model = new_model(self.encoded.dictionaries, self.config.model, seed=training.seed, sparse=self.device == "cpu")
        model.to(self.device)
        if self._restored:
            model.load_state_dict(self._restored["model"])
        rows = self.encoded.meta.rows[part]
        wrapped = ray.train.torch.prepare_model(model, move_to_device=False) if self.world > 1 else model
        self.learner = Learner(
            wrapped,
            self.store,
            self.encoded.clicks(part),
            self.config,
            self._steps(rows) * rounds,
            self.device,
        )
        if self._restored:
            self.learner.optimiser.load_state_dict(self._restored["optimiser"])
            self.learner.schedule.load_state_dict(self._restored["schedule"])
            self._restored = {}

    def _module(self) -> TwoTower:
        model: TwoTower = getattr(self.learner.model, "module", self.learner.model)  # type: ignore[arg-type]
        return model

    def _steps(self, rows: int) -> int:
        return max(1, rows // (self.config.training.batch_size * self.world))

    def _waited(self) -> int:
        return self.progress.round - self.progress.best_round

    def _batches(self, name: str) -> Iterator[Columns]:
        return batches(ray.train.get_dataset_shard(name), self.config.training.batch_size)

    def _round(self, stream: Iterator[Columns], steps: int, rounds: int) -> None:
        """One pass; the loss is logged at the end, progress now and then."""
        total, count, started = torch.zeros((), device=self.device), 0, time.monotonic()
        for batch in stream:
            total += self.learner.step(batch)
            count += 1
            self._tell(count / steps, rounds)
        self.progress.round += 1
        self.progress.steps += count
        seconds = time.monotonic() - started
        loss = float(total) / max(count, 1)
        rate = count * self.config.training.batch_size * self.world / max(seconds, 1e-9)
        self._log({f"{self.progress.phase}/loss": loss, f"{self.progress.phase}/examples_per_second": rate})

    def _validate(self) -> ValidationMetrics:
        """Rank 0 validates; all ranks hear the result, since they stop together."""
        metrics: list[Any] = [None]
        if self.rank == 0:
            metrics = [validate(self._module(), self.store, self.window, self.config.training.seed, self.device)]
        if self.world > 1:
            torch.distributed.broadcast_object_list(metrics, src=0)
        result: ValidationMetrics = ValidationMetrics(*metrics[0])
        self._log({f"validation/{name}": value for name, value in result._asdict().items()})
        return result

    def _report(self, metrics: dict[str, float], *, final: bool = False) -> None:
        """A barrier for all ranks; rank 0 brings the checkpoint."""
        if final:
            self.progress.phase = "done"
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.rank == 0:
                self._save(Path(folder))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)

    def _save(self, folder: Path) -> None:
        module = self._module()
        state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        (folder / "progress.json").write_text(json.dumps(asdict(self.progress)))
        if self.progress.phase != "done":
            torch.save(
                {
                    "model": module.state_dict(),
                    "optimiser": self.learner.optimiser.state_dict(),
                    "schedule": self.learner.schedule.state_dict(),
                    "best": self.best,
                },
                folder / "training.pt",
            )

    def _restore(self, folder: Path | None) -> None:
        if folder is None:
            return
        self.progress = Progress(**json.loads((folder / "progress.json").read_text()))
        if self.progress.phase != "done":
            self._restored = torch.load(folder / "training.pt", weights_only=True, map_location=self.device)
            self.best = self._restored["best"]

    def _log(self, metrics: dict[str, float]) -> None:
        if self.rank != 0:
            return
        client = mlflow.MlflowClient(self.settings["mlflow_uri"])
        for name, value in metrics.items():
            client.log_metric(self.settings["run_id"], name, value, step=self.progress.round)
        self.progress.history.append({"round": self.progress.round, **metrics})

    def _tell(self, share: float, rounds: int) -> None:
        """Let the driver's progress bar know, at most every half second."""
        now = time.monotonic()
        if self.rank == 0 and now - self._told > LOG_EVERY_SECONDS:
            self._told = now
            state = {
                "phase": self.progress.phase,
                "done": self.progress.round + share,
                "rounds": rounds,
                "mrr": self.progress.best_mrr,
            }
            path = Path(self.settings["progress_file"])
            path.with_suffix(".new").write_text(json.dumps(state))
            path.with_suffix(".new").replace(path)


@contextmanager
def _checkpoint_folder() -> Iterator[Path | None]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
