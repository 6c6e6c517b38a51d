"""What is submitted, uploaded and refused, without a cluster."""

import json
import shutil
import zipfile
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray._private.runtime_env.packaging import create_package

from twinspire import cluster, jobs
from twinspire.cli import PIPELINES, cli, submit
from twinspire.errors import EnvironmentProblem
from twinspire.mlflow_client import tracking_uri

ROOT = Path(__file__).parents[2]
MOST_BYTES = 3 << 20
WORDS = st.text("abc =.-'\"$ é", min_size=1, max_size=8).filter(lambda text: text.strip() == text)
PATHS = st.lists(st.sampled_from(["a", "b c", "..", "é"]), min_size=1, max_size=3).map("/".join)
NUMBERS = st.integers(5, 900).map(str)
SHARES = st.sampled_from(["0.25", "1", "0.5"])
VALUES = {click.Path: PATHS, click.IntRange: NUMBERS, type(click.INT): NUMBERS, click.FloatRange: SHARES}


def package(folder, target):
    create_package(str(folder), target, include_gitignore=True, include_parent_dir=False, excludes=[".git", ".venv"])
    with zipfile.ZipFile(target) as file:
        return {name for name in file.namelist() if not name.endswith("/")}


def test_what_is_uploaded_is_small(tmp_path):
    names = package(ROOT, tmp_path / "package.zip")
    assert (tmp_path / "package.zip").stat().st_size < MOST_BYTES
    assert {name.split("/")[0] for name in names if "/" in name} == {"pipelines", "platform", "serving"}
    assert {"pipelines/fit.py", "platform/twinspire/jobs.py", "serving/page/index.html", jobs.RUNTIME_ENV} <= names


def test_what_lies_beside_the_source_is_not_uploaded(tmp_path):
    for name in (".rayignore", ".gitignore", jobs.RUNTIME_ENV):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("shop/items.parquet", "bundles/b/model.safetensors", "mlflow.db", "tests/x.py", "pipelines/fit.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * 1000)
    assert package(tmp_path, tmp_path / "package.zip") == {"pipelines/fit.py", jobs.RUNTIME_ENV}


@settings(max_examples=60)
@given(st.data(), st.sampled_from(PIPELINES))
def test_a_job_gets_what_the_command_was_given_with_absolute_paths(data, name):
    command = cli.get_command(None, name)
    line = []
    for option in command.params:
        if not option.required and data.draw(st.booleans()):
            continue
        if option.is_flag:
            line.append(data.draw(st.sampled_from(option.opts + option.secondary_opts)))
            continue
        for _ in range(data.draw(st.integers(1, 2)) if option.multiple else 1):
            line += [option.opts[0], data.draw(VALUES.get(type(option.type), WORDS))]
    told = command.make_context(name, list(line))
    heard = command.make_context(name, list(submit._arguments(told))).params
    assert heard["submit"] is None
    for option in command.params:
        if option.name in submit.OWN:
            continue
        for here, there in zip(as_list(told.params[option.name]), as_list(heard[option.name]), strict=True):
            assert there == (here.absolute() if isinstance(here, Path) else here)


def as_list(value):
    return list(value) if isinstance(value, tuple) else [value]


@pytest.fixture
def in_a_job(monkeypatch):
    config = {"metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv(cluster.JOB_CONFIG, json.dumps(config))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.usefixtures("in_a_job")
@pytest.mark.parametrize(
    ("option", "path", "told"),
    [
        ("--data", "{}/none", r"--data \S+/none is not there on node \S+, where the job runs; put it on storage that"),
        ("--out", "bundle", "--out bundle would be lost with the job's working folder; give an absolute path"),
        ("--out", "{}/none/bundle", r"--out \S+: there is no folder \S+/none on node \S+, where the job runs; make it"),
    ],
)
def test_a_job_refuses_paths_that_are_not_where_it_runs(tmp_path, option, path, told):
    paths = {option: Path(path.format(tmp_path))}
    with pytest.raises(EnvironmentProblem, match=told):
        jobs.refuse_unseen(*(({}, paths) if option == "--out" else (paths, {})))


def test_elsewhere_a_command_speaks_for_itself(tmp_path, monkeypatch):
    monkeypatch.delenv(cluster.JOB_CONFIG, raising=False)
    jobs.refuse_unseen({"--data": tmp_path / "none"}, {"--out": Path("bundle")})


@pytest.mark.usefixtures("in_a_job")
def test_a_job_does_not_log_into_a_folder_that_is_thrown_away(monkeypatch):
    with pytest.raises(EnvironmentProblem, match="MLFLOW_TRACKING_URI is not set for this job"):
        tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri() == "http://mlflow:5000"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("sqlite:////shared/mlflow.db", "sqlite:////shared/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///{}/mlflow.db"),
        ("", None),
    ],
)
def test_a_job_logs_to_where_its_submitter_does(here, there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here)
    environment = jobs.runtime_env()
    assert environment["working_dir"] == str(ROOT)
    assert environment["env_vars"]["PYTHONPATH"] == "platform"
    assert environment["env_vars"].get("MLFLOW_TRACKING_URI") == (there and there.format(tmp_path))


def test_a_token_file_that_is_not_there_is_one_line(monkeypatch, tmp_path):
    for name in (jobs.TOKEN, jobs.AUTH_MODE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(jobs.TOKEN_PATH, str(tmp_path / "none"))
    with pytest.raises(EnvironmentProblem, match=r"^RAY_AUTH_TOKEN_PATH=\S+/none: No such file or directory$"):
        jobs._token()
    (tmp_path / "none").write_text(" \n")
    with pytest.raises(EnvironmentProblem, match="is empty"):
        jobs._token()
    (tmp_path / "none").write_text("secret\n")
    assert jobs._token() == {"Authorization": "Bearer secret"}


def test_nobody_there_is_one_line():
    with pytest.raises(EnvironmentProblem, match=r"^no Ray job server at http://127.0.0.1:9 \(nothing answers there\)"):
        jobs.submit("127.0.0.1:9", "heads", [], cpus=1, say=print)
