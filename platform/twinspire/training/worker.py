"""What each Ray Train worker runs: rounds over its share, validation, early stopping, then a refit on the whole log.

Wherever it starts, it goes on from the newest checkpoint, in the middle of a round too: the stream of its share is
made from that row on. Workers that died, a controller that died and a driver that died are all the same to it.
"""

from __future__ import annotations

import gc
import itertools
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
import ray.train.torch
import torch
import torch.distributed
from safetensors.torch import load_file

from twinspire.config import Config
from twinspire.errors import TwinspireError
from twinspire.features.encode import Encoded
from twinspire.files import replacing
from twinspire.training.build import architecture, new_model
from twinspire.training.checkpoints import Checkpoints, Progress, read_progress, read_state
from twinspire.training.feed import ReadPart, Share, batches, stream
from twinspire.training.learner import Learner
from twinspire.training.mlflow_run import RoundLog
from twinspire.training.tables import hold
from twinspire.training.validation import ValidationMetrics, validate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.training.batches import Columns

TELL_EVERY_SECONDS = 0.5


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of a worker. `settings`: config (JSON), folder, checkpoints, owner, mlflow_uri, run_id,
    progress_file, start (weights to start from, or empty), only_rounds (on the whole log, without a search; or 0)."""
    config = Config.model_validate_json(settings["config"])
    context = ray.train.get_context()
    torch.set_num_threads(config.training.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    Worker(config, settings, Share(context.get_world_rank(), context.get_world_size())).run()


class Worker:
    """One worker's training."""

    def __init__(self, config: Config, settings: dict[str, Any], share: Share) -> None:
        self.config, self.settings, self.share = config, settings, share
        self.encoded = Encoded.open(Path(settings["folder"]))
        self.store = self.encoded.store
        self.window = self.encoded.validation
        self.device = str(ray.train.torch.get_device()) if config.training.device == "cuda" else "cpu"
        self.checkpoints = Checkpoints(Path(settings["checkpoints"]))
        self.log = RoundLog(settings["mlflow_uri"], settings["run_id"])
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._restored: dict[str, Any] = {}
        self._told = self._saved = time.monotonic()

    def run(self) -> None:
        """Train to the end, from wherever the newest checkpoint is."""
        self._restore()
        if self.progress.phase == "search":
            self._search()
        if self.progress.phase == "refit":
            self._refit()
        if self.progress.phase != "done":
            refitted = self.config.training.refit or int(self.settings["only_rounds"])
            weights = self.tables.weights() if refitted else self.best
            self.progress.phase = "done"
            if self.share.rank == 0:
                self.checkpoints.finish(self.settings["owner"], self.progress, weights, self.best)

    def _search(self) -> None:
        """Rounds over the training rows until validation stops improving."""
        training = self.config.training
        steps = self._start("training", training.rounds)
        source = self._batches("training", training.rounds, steps)
        while self.progress.round < training.rounds and self._waited() < training.patience:
            metrics = self._round(source, steps, training.rounds)
            validation = self._validate()
            if validation.mrr > self.progress.best_mrr:
                self.progress.best_mrr, self.progress.best_round = validation.mrr, self.progress.round
                self.best = self.tables.weights()
            self._record(metrics | {f"validation/{name}": value for name, value in validation._asdict().items()})
        if training.refit:
            self.progress.phase, self.progress.round = "refit", 0
            del self.tables
            gc.collect()  # a GPU may have no room for the next phase's tables beside these

    def _refit(self) -> None:
        """As many rounds over all positives as were best, from a new start."""
        rounds = max(self.progress.best_round, 1)
        steps = self._start("all", rounds)
        source = self._batches("all", rounds, steps)
        while self.progress.round < rounds:
            self._record(self._round(source, steps, rounds))

    def _start(self, part: str, rounds: int) -> int:
        """A learner for this phase: a new one, or the restored one where a checkpoint of the phase was found.

        Gives the steps of a round.
        """
        training, world = self.config.training, self.share.world
        sparse = self.device == "cpu" or world > 1
        model = new_model(self.encoded.dictionaries, self.config.model, seed=training.seed, sparse=sparse)
        if self.settings["start"]:
            model.load_state_dict(load_file(self.settings["start"]))
        steps = max(1, self.encoded.meta.rows[part] // (training.batch_size * world))
        learn = partial(
            Learner,
            store=self.store,
            clicks=self.encoded.clicks(part),
            config=self.config,
            steps=steps * rounds,
            device=self.device,
        )
        towers = architecture(self.encoded.dictionaries, self.config.model)
        self.tables = hold(model, towers, training, self.device, learn)
        if self._restored:
            self.tables.load(self._restored)
            self._restored = {}
        torch.manual_seed(hash((training.seed, self.share.rank, self.progress.steps)))  # of dropout
        return steps

    def _waited(self) -> int:
        return self.progress.round - self.progress.best_round

    def _batches(self, part: str, rounds: int, steps: int) -> Iterator[Columns]:
        """The rest of this worker's batches of a phase."""
        training = self.config.training
        read = ReadPart(
            self.config.negatives,
            training.batch_size,
            self.store.n_items,
            training.seed,
            self.share,
            self.config.supervision,
        )
        learned = (self.progress.round * steps + self.progress.step) * training.batch_size
        return batches(stream(self.encoded.folder / "rows" / part, read, rounds, learned), training.batch_size)

    def _round(self, source: Iterator[Columns], steps: int, rounds: int) -> dict[str, float]:
        """What is left of a pass; gives its mean loss and its rate."""
        progress, size = self.progress, self.config.training.batch_size * self.share.world
        first, started = progress.step, time.monotonic()
        total = torch.tensor(progress.loss, device=self.device)
        for batch in itertools.islice(source, steps - first):
            total += self.tables.learner.step(batch)
            progress.step += 1
            progress.steps += 1
            if self.share.rank == 0:
                self._tell(progress.step / steps, rounds)
            if progress.step < steps and self.tables.agree(self._due(), progress.steps):
                progress.loss = float(total)
                self._save()
        rate = (progress.step - first) * size / max(time.monotonic() - started, 1e-9)
        loss = float(total) / max(progress.step, 1)
        progress.round, progress.step, progress.loss = progress.round + 1, 0, 0.0
        return {f"{progress.phase}/loss": loss, f"{progress.phase}/examples_per_second": rate}

    def _validate(self) -> ValidationMetrics:
        """Rank 0 validates; all ranks hear the result, since they stop together."""
        metrics: list[Any] = [None]
        model = self.tables.whole()
        if model is not None and self.share.rank == 0:
            device = str(next(model.parameters()).device)
            metrics = [validate(model, self.store, self.window, self.config.training.seed, device)]
        if self.share.world > 1:
            torch.distributed.broadcast_object_list(metrics, src=0)
        return ValidationMetrics(*metrics[0])

    def _record(self, metrics: dict[str, float]) -> None:
        """A round's end: first the checkpoint, then MLflow, so that what is logged will not be learned again."""
        self.progress.history.append({"round": self.progress.round, **metrics})
        self._save()
        if self.share.rank == 0:
            self._bring()

    def _bring(self) -> None:
        try:
            self.log.bring(self.progress.history)
        except TwinspireError:  # the next round, or the driver at the end, makes up for it
            return

    def _due(self) -> bool:
        return time.monotonic() - self._saved > 60 * self.config.training.checkpoint_minutes

    def _save(self) -> None:
        """A checkpoint, written by rank 0; every rank brings what it alone holds."""
        state = self.tables.state() | {"best": self.best}
        if self.share.rank == 0:
            self.checkpoints.save(self.settings["owner"], self.progress, state)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        """Every rank reads the same checkpoint: rank 0 names it."""
        newest: list[Any] = [self.checkpoints.newest()]
        if self.share.world > 1:
            torch.distributed.broadcast_object_list(newest, src=0)
        if newest[0] is None:
            self._skip_search()
            return
        self.progress = read_progress(newest[0])
        if self.progress.phase != "done":
            self._restored = read_state(newest[0])
            self.best = self._restored["best"]
        if self.share.rank == 0:
            self._bring()

    def _skip_search(self) -> None:
        """Go straight to the whole log, where the number of rounds is given."""
        rounds = int(self.settings["only_rounds"])
        if rounds:
            self.progress.phase, self.progress.best_round = "refit", rounds
            self.best = load_file(self.settings["start"])

    def _tell(self, share: float, rounds: int) -> None:
        """Let the driver's progress bar know, now and then."""
        now = time.monotonic()
        if now - self._told < TELL_EVERY_SECONDS:
            return
        self._told = now
        state = {
            "phase": self.progress.phase,
            "done": self.progress.round + share,
            "rounds": rounds,
            "mrr": self.progress.best_mrr,
        }
        path = Path(self.settings["progress_file"])
        with replacing(path) as beside:
            beside.write_text(json.dumps(state))
