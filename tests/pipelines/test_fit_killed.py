"""A fit that is killed goes on where it was: one bundle, one MLflow run, nothing left behind."""

import json
import os
import random
import signal
import time

import mlflow
import polars as pl
import pytest
from command import CommandLine

from twinspire.bundle import Bundle
from twinspire.simulation import simulate

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow, of its own queries
]

WITHIN_S = 600
OTHERS = {"mlflow.db", "mlartifacts", "bundle"}
# Marks of the processes' command lines; Ray names its workers by the actor they run.
WORKER, CONTROLLER = "RayTrainWorker", "TrainController"
SMALL = ("model.dim=16", "model.hidden=16", "training.batch_size=2")
SEED_NOISE = 0.03  # three standard deviations of the difference of two seeds' best MRR on this market


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "market"
    simulate(folder, items=800, users=400, interactions=60_000, seed=3)
    return folder


class Fit:
    """A fit on the command line that may be killed and started again."""

    def __init__(self, line, data, *settings):
        self.line = line
        options = [part for setting in settings for part in ("--set", setting)]
        self.command = ("fit", "--data", data, "--out", line.folder / "bundle", *options)
        self.work = line.folder / ".bundle.work"

    def start(self):
        self.process = self.line.start(*self.command)

    def wait_for(self, pattern):
        """Wait until a file of the work folder matches."""
        self._wait(lambda: list(self.work.glob(pattern)), pattern)

    def wait_for_checkpoint(self, number):
        """Wait for this checkpoint or a later one."""
        self._wait(lambda: self.newest() >= number, f"checkpoint {number}")

    def _wait(self, there, what):
        until = time.monotonic() + WITHIN_S
        while not there():
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{what} is not there: {self.line.wait(self.process, 1)}")
            time.sleep(0.02)

    def kill(self, whom):
        """Kill the driver, or a process of Ray's by what it runs; False where there is none now."""
        if whom == "driver":
            self.process.kill()
            self.process.wait()
            return True
        found = [pid for pid, text in self.line.processes().items() if whom in text]
        for pid in found[:1]:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    def newest(self):
        """The number of the newest checkpoint."""
        return max(int(path.name) for path in self.work.glob("train/checkpoints/[0-9]*"))

    def owner(self):
        """Who may write checkpoints."""
        return (self.work / "train" / "checkpoints" / "owner").read_text()

    def wait_for_other_owner(self, owner):
        """Wait until a new driver has taken the training over."""
        self._wait(lambda: self.owner() != owner, "a new owner")

    def wait_until_steps(self, steps):
        """Wait until a checkpoint holds so many steps of the whole training."""
        self.wait_for("train/checkpoints/[0-9]*")
        self._wait(lambda: self._steps() >= steps, f"step {steps}")

    def _steps(self):
        try:
            newest = max(self.work.glob("train/checkpoints/[0-9]*"))
            return json.loads((newest / "progress.json").read_text())["steps"]
        except (OSError, ValueError):  # the next one has just taken its place
            return 0

    def store(self):
        return mlflow.MlflowClient(f"sqlite:///{self.line.folder / 'mlflow.db'}")

    def runs(self):
        store = self.store()
        return store.search_runs([store.get_experiment_by_name("twinspire").experiment_id])

    def finish(self):
        """Let it end, starting it again where the driver was killed; it must end well."""
        if self.process.poll() is not None and self.process.returncode != 0:
            self.start()
        ended = self.line.wait(self.process, WITHIN_S)
        assert ended.code == 0, ended.err
        return ended

    def check(self):
        """The end is clean; gives the bundle's manifest."""
        assert self.line.left_running() == []
        assert {path.name for path in self.line.folder.iterdir()} == OTHERS
        manifest = Bundle.load(self.line.folder / "bundle").manifest
        (run,) = self.runs()
        assert (run.info.run_id, run.info.status) == (manifest.mlflow_run_id, "FINISHED")
        for name in ("search/loss", "validation/mrr", "search/examples_per_second"):
            steps = [point.step for point in self.store().get_metric_history(run.info.run_id, name)]
            assert steps == list(range(1, len(steps) + 1)), "each round once"
        return manifest


@pytest.mark.slow
def test_a_killed_worker_a_killed_driver_and_ctrl_c(line, tiny_dataset):
    fit = Fit(line, tiny_dataset, *SMALL, "training.rounds=6", "training.checkpoint_minutes=0.01")
    fit.start()
    fit.wait_for("train/checkpoints/[0-9]*")
    assert fit.kill(WORKER)
    fit.wait_for_checkpoint(fit.newest() + 2)
    fit.kill("driver")
    assert fit.work.is_dir()
    owner = fit.owner()
    fit.start()
    fit.wait_for_other_owner(owner)  # workers of the killed driver may write until then
    fit.wait_for_checkpoint(fit.newest() + 2)
    fit.process.send_signal(signal.SIGINT)
    stopped = line.wait(fit.process)
    assert stopped.code == 130, stopped.err
    assert "the same command goes on from the last checkpoint" in stopped.err
    assert fit.work.is_dir()
    assert [run.info.status for run in fit.runs()] == ["KILLED"]
    ended = fit.finish()
    assert "going on from the last checkpoint" in ended.err
    fit.check()


@pytest.mark.slow
def test_two_fits_into_one_target(line, tiny_dataset):
    fit = Fit(line, tiny_dataset, *SMALL, "training.rounds=40")
    fit.start()
    fit.wait_for("encoded")
    second = CommandLine(line.folder)
    ended = second(*fit.command)
    assert ended.code == 2
    assert ended.err.strip().splitlines()[-1].startswith(f"error: {line.folder / 'bundle'}: another fit (process ")
    assert fit.process.poll() is None, "the first goes on"
    fit.kill("driver")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_kills_at_random_moments_are_ten_clean_ends(tmp_path, market):
    """Who is killed and when is drawn; what is measured is printed (`pytest -s`)."""
    draw = random.Random(2020)  # moments are shares of all steps, so that a slow start draws no fewer of them
    settings = ("training.rounds=6", "training.patience=9", "training.checkpoint_minutes=0.02")

    def whole(name, whom=None, steps=0):
        """A fit whose process `whom` is killed after so many steps; its bundle's training and the seconds it took."""
        folder = tmp_path / name
        folder.mkdir()
        line = CommandLine(folder)
        fit = Fit(line, market, *settings)
        try:
            started = time.monotonic()
            fit.start()
            if whom:
                fit.wait_until_steps(steps)
                assert fit.kill(whom)
            fit.finish()
            return fit.check().training, time.monotonic() - started
        finally:
            line.end_all()

    undisturbed, seconds = whole("undisturbed")
    print(f"undisturbed: MRR {undisturbed['best_mrr']:.4f}, {undisturbed['steps']} steps in {seconds:.0f} s")
    found = []
    for number in range(10):
        whom, steps = draw.choice(["driver", WORKER, CONTROLLER]), draw.randrange(int(undisturbed["steps"] * 0.9))
        training, took = whole(f"killed-{number}", whom, steps)
        print(f"{whom} killed after {steps} steps: MRR {training['best_mrr']:.4f} in {took:.0f} s")
        found.append(training["best_mrr"])
    best = undisturbed["best_mrr"]
    assert pl.Series(found).is_between(best - SEED_NOISE, best + SEED_NOISE).all()
