"""Pipelines as jobs of a real Ray head with its job server and token auth, started in each way that there is."""

import re
import shutil
import signal
import subprocess
import sys

import mlflow
import pytest
from ray_head import RAY, ROOT, ray_head, wait_for

from twinspire.bundle import Manifest
from twinspire.jobs import RUNTIME_ENV

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow, of its own queries
]

TWINSPIRE = [sys.executable, "-m", "twinspire"]
WITHIN_S = 300
SHORT = ("--set", "training.rounds=1", "--set", "training.refit=false", "--set", "training.batch_size=32")
DAILY = """
training: {rounds: 1, refit: false, batch_size: 32}
model: {dim: 16}
log: {holdout_days: 3}
gates: {min_cases: 20, worst_slice: 1, max_p99_ms: null}
"""
RUN = re.compile(r"MLflow run ([0-9a-f]{32})")


@pytest.fixture(scope="module")
def head():
    with ray_head() as running:
        yield running


@pytest.fixture
def run(head, tmp_path):
    """Runs a command to its end where there is nothing, as somebody who has the token; MLflow is in that folder."""

    def run(*command, folder=tmp_path, **more):
        return subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=head.environment | mlflow_of(tmp_path) | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )

    return run


def mlflow_of(folder):
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}


def newest(head):
    return max(head.jobs().values(), key=lambda job: job["start_time"])


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


def test_a_job_tells_what_the_command_itself_tells(head, run, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    ended = run(*TWINSPIRE, "heads", "--bundle", "bundle", "--query", "red shoes", "--submit", head.url)
    assert ended.returncode == 0, ended.stderr
    job = newest(head)
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert f"--bundle {tmp_path}/bundle --query 'red shoes'" in job["entrypoint"]
    assert "red shoes" in ended.stdout
    assert lines(ended.stdout)[-1] == f"job {job['submission_id']}: done"
    assert ended.stderr == ""


def test_a_job_that_fails_is_one_line_and_its_exit_code(head, run):
    ended = run(*TWINSPIRE, "heads", "--bundle", "none", "--submit", head.url)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stdout
    assert re.search(r"error: --bundle \S+/none is not there on node \S+, where the job runs; put it", ended.stdout)
    job = newest(head)
    assert lines(ended.stderr) == [f"error: job {job['submission_id']}: failed with exit code 2"]


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("wrong" * 10, "refuses the token; set RAY_AUTH_TOKEN"),
        ("", "asks for a token, and there is none here; set RAY"),
    ],
)
def test_without_the_right_token_it_is_one_line(head, run, token, told, tmp_path):
    before = head.jobs()
    ended = run(*TWINSPIRE, "heads", "--bundle", "b", "--submit", head.url, RAY_AUTH_TOKEN=token, HOME=str(tmp_path))
    (line,) = lines(ended.stderr)
    assert line.startswith(f"error: the cluster at {head.url} {told}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert head.jobs() == before


@pytest.mark.slow
def test_rays_own_command_runs_the_same(head, run, tiny_bundle):
    own = run(sys.executable, "-m", "pipelines.heads", "--bundle", tiny_bundle)
    environment = ("--runtime-env", RUNTIME_ENV, "--working-dir", ".")
    submit = (*RAY, "job", "submit", "--address", head.url, *environment, "--")
    entry = ("python", "-m", "pipelines.heads", "--bundle", tiny_bundle)
    ended = run(*submit, *entry, folder=ROOT)
    assert (own.returncode, ended.returncode) == (0, 0), ended.stderr
    assert own.stdout in ended.stdout
    relative = run(*submit, *entry, "--out", "report.json", folder=ROOT)
    assert relative.returncode == 1
    assert "--out report.json would be lost with the job's working folder" in relative.stdout


@pytest.mark.slow
def test_a_fit_and_what_follows_run_on_the_cluster(head, run, tiny_dataset, tmp_path):
    out = tmp_path / "bundle"
    ended = run(*TWINSPIRE, "fit", "--data", tiny_dataset, "--out", out, *SHORT, "--submit", head.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (run_id,) = set(RUN.findall(ended.stdout))
    assert Manifest.read(out).mlflow_run_id == run_id
    assert lines(ended.stdout)[-1] == f"job {newest(head)['submission_id']}, MLflow run {run_id}: done"
    client = mlflow.MlflowClient(mlflow_of(tmp_path)["MLFLOW_TRACKING_URI"])
    assert client.get_run(run_id).info.status == "FINISHED"
    drawn = run(*TWINSPIRE, "figures", "--bundle", out, "--out", tmp_path / "figures", "--submit", head.url)
    assert drawn.returncode == 0, drawn.stdout + drawn.stderr
    assert (tmp_path / "figures" / "figures.html").is_file()
    assert f"MLflow run {run_id}: done" in drawn.stdout


@pytest.mark.slow
def test_ctrl_c_stops_the_job(head, tiny_dataset, tmp_path):
    command = [*TWINSPIRE, "fit", "--data", tiny_dataset, "--out", tmp_path / "bundle", "--submit", head.url]
    long = ["--set", "training.rounds=500", "--set", "training.patience=500", "--set", "training.batch_size=2",
            "--set", "training.checkpoint_minutes=0.02"]  # fmt: skip
    checkpoints = tmp_path / ".bundle.work" / "train" / "checkpoints"
    with (tmp_path / "log.txt").open("w+") as log:
        process = subprocess.Popen(
            [str(part) for part in [*command, *long]],
            env=head.environment | mlflow_of(tmp_path),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: RUN.search((tmp_path / "log.txt").read_text()), WITHIN_S)
        wait_for(lambda: any(checkpoints.glob("[0-9]*")), WITHIN_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    told = (tmp_path / "log.txt").read_text()
    run_id = RUN.search(told).group(1)
    job = newest(head)
    assert job["status"] == "STOPPED"
    assert f"stopping job {job['submission_id']}" in told
    assert "the same command goes on from the last checkpoint" in told
    assert lines(told)[-1] == f"job {job['submission_id']}, MLflow run {run_id}: stopped"
    client = mlflow.MlflowClient(mlflow_of(tmp_path)["MLFLOW_TRACKING_URI"])
    assert client.get_run(run_id).info.status == "KILLED"


@pytest.mark.slow
def test_mlflow_runs_a_project_that_follows_the_job(head, run, tiny_dataset, tmp_path):
    out = tmp_path / "bundle"
    given = {"data": tiny_dataset, "out": out, "address": head.url, "set": "training.rounds=1"}
    parameters = [part for name, value in given.items() for part in ("-P", f"{name}={value}")]
    mlflow_run = [sys.executable, "-m", "mlflow", "run", "mlflow_projects/fit", "--env-manager", "local"]
    ended = run(*mlflow_run, *parameters, folder=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    client = mlflow.MlflowClient(mlflow_of(tmp_path)["MLFLOW_TRACKING_URI"])
    fit = client.get_run(Manifest.read(out).mlflow_run_id)
    project = client.get_run(fit.data.tags["mlflow.parentRunId"])
    assert project.data.params["data"] == str(tiny_dataset)
    assert project.data.tags["twinspire.run"] == fit.info.run_id
    assert fit.data.params["training.rounds"] == "1"
    failing = run(*mlflow_run, "-P", "data=none", "-P", f"out={out}", "-P", f"address={head.url}", folder=ROOT)
    assert failing.returncode == 1
    assert f"--data {ROOT}/none is not there on node" in failing.stdout


@pytest.mark.slow
def test_the_daily_loop_runs_on_the_cluster(head, run, tiny_dataset, tmp_path):
    config = tmp_path / "daily.yaml"
    config.write_text(DAILY)
    given = {"data": tiny_dataset, "name": "shop", "out": tmp_path / "retrain", "config": config}
    loop = ("retrain", *(part for name, value in given.items() for part in (f"--{name}", value)))
    first = run(*TWINSPIRE, *loop, "--submit", head.url)
    assert first.returncode == 0, first.stdout + first.stderr
    (run_id,) = set(RUN.findall(first.stdout))
    promoted, done = lines(first.stdout)[-2:]
    assert promoted == "promoted: models:/shop/1 is champion, the first"
    assert done == f"job {newest(head)['submission_id']}, MLflow run {run_id}: done"
    client = mlflow.MlflowClient(mlflow_of(tmp_path)["MLFLOW_TRACKING_URI"])
    assert client.get_model_version_by_alias("shop", "champion").run_id == run_id

    again = run(*TWINSPIRE, *loop)  # here, what the cluster has done is known
    assert again.stdout.strip() == "models:/shop/1 is of the same data and config, and was promoted; nothing to do"

    given |= {"address": head.url, "set": "gates.min_gain=0.5"}
    parameters = [part for name, value in given.items() for part in ("-P", f"{name}={value}")]
    project = (sys.executable, "-m", "mlflow", "run", "mlflow_projects/retrain", "--env-manager", "local")
    worse = run(*project, *parameters, folder=ROOT)
    assert worse.returncode == 1  # MLflow's own, whatever the job's is
    assert newest(head)["driver_exit_code"] == 3
    assert "refused: models:/shop/2; models:/shop/1 stays champion\n  gain mrr: " in worse.stdout
    assert client.get_model_version_by_alias("shop", "champion").version == 1
