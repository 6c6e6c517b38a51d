"""Jobs: a pipeline on a Ray cluster elsewhere: submitted, followed to its end, stopped with Ctrl-C.

What runs there is this checkout, as far as `.rayignore` lets it be uploaded, in the environment of `runtime_env.yaml`:
what `ray job submit --working-dir . --runtime-env runtime_env.yaml -- python -m pipelines.fit ...` runs too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shlex
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from twinspire import cluster
from twinspire.errors import EnvironmentProblem, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CONNECT_S, ANSWER_S = 5.0, 30.0
POLL_S = 0.5
RECONNECTS = 10  # in a row, RECONNECT_S apart
RECONNECT_S = 3.0
ASKED = "/api/packages/gcs/knock.zip"  # not there, which only those with the token are told
INTERRUPTED = 130
RUNTIME_ENV = "runtime_env.yaml"
TOKEN, TOKEN_PATH, AUTH_MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"
CHATTY = ("ray.dashboard.modules", "ray._private.runtime_env", "ray.dashboard.utils")
RUN = re.compile(r"^(?:.*\s)?MLflow run ([0-9a-f]{32})\b", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code, 130 where it was stopped; the MLflow run that it named; why it did not start."""

    job_id: str
    exit_code: int
    run_id: str | None = None
    reason: str | None = None


def submit(
    address: str, pipeline: str, arguments: Sequence[str], *, cpus: float, say: Callable[[str], None]
) -> Outcome:
    """Run `python -m pipelines.PIPELINE ARGUMENTS` on the cluster at `address` (its job server); follow it to its end.

    What the job prints goes to `say` as it comes. A KeyboardInterrupt stops the job, waits until it has ended, and
    gives exit code 130. The job's driver reserves `cpus` of one node.
    Errors: EnvironmentProblem where the job server does not answer, refuses the token, or is lost.
    """
    address = address if "://" in address else f"http://{address}"
    job_id = f"twinspire-{pipeline}-{secrets.token_hex(4)}"
    client = _client(address)
    follower = _Follower(client, address, job_id, say)
    try:
        with _clear_errors(address):
            client.submit_job(
                entrypoint=shlex.join(["python", "-m", f"pipelines.{pipeline}", *arguments]),
                submission_id=job_id,
                runtime_env=runtime_env(),
                entrypoint_num_cpus=cpus,
            )
        say(f"job {job_id} on {address}\n")
        follower.to_the_end()
    except KeyboardInterrupt:
        say(f"stopping job {job_id}\n")
        with _clear_errors(address), suppress(RuntimeError):  # it was not submitted yet
            client.stop_job(job_id)
            follower.to_the_end()
        return Outcome(job_id, INTERRUPTED, follower.run_id)
    return follower.outcome()


def runtime_env() -> dict[str, Any]:
    """This checkout and what RUNTIME_ENV says, with MLFLOW_TRACKING_URI as it is here.

    Without a checkout, where twinspire was installed from a wheel, nothing is uploaded: the cluster's own runs.
    """
    root = checkout()
    environment: dict[str, Any] = {"env_vars": {}}
    if root is not None:
        environment = {**yaml.safe_load((root / RUNTIME_ENV).read_text()), "working_dir": str(root)}
    tracking = os.environ.get("MLFLOW_TRACKING_URI")
    if tracking:
        own_file = tracking.startswith("sqlite:///") and not tracking.startswith("sqlite:////")
        environment["env_vars"]["MLFLOW_TRACKING_URI"] = (
            f"sqlite:///{Path(tracking.removeprefix('sqlite:///')).absolute()}" if own_file else tracking
        )
    return environment


def checkout() -> Path | None:
    """The folder that holds the pipelines' source and RUNTIME_ENV, if there is one."""
    root = Path(__file__).parents[2]
    return root if (root / RUNTIME_ENV).is_file() and (root / "pipelines").is_dir() else None


def refuse_unseen(inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """In a Ray job: are a command's paths where the job runs? By option.

    Errors: EnvironmentProblem that names the option. Elsewhere, nothing is asked.
    """
    if not cluster.inside_job():
        return
    node = socket.gethostname()
    shared = "put it on storage that every node mounts at the same path"
    for option, path in inputs.items():
        if not path.exists():
            raise EnvironmentProblem(f"{option} {path} is not there on node {node}, where the job runs; {shared}")
    for option, path in outputs.items():
        if not path.is_absolute():
            raise EnvironmentProblem(
                f"{option} {path} would be lost with the job's working folder; give an absolute path on storage that "
                "every node mounts"
            )
        if not path.parent.is_dir():
            raise EnvironmentProblem(
                f"{option} {path}: there is no folder {path.parent} on node {node}, where the job runs; make it, or "
                f"{shared}"
            )


class _Follower:
    """Brings a job's log here, until it has ended."""

    def __init__(self, client: Any, address: str, job_id: str, say: Callable[[str], None]) -> None:
        self._client, self._address, self._job_id, self._say = client, address, job_id, say
        self._told = 0  # characters of the log
        self._line = ""  # the last one, as far as it is there
        self.run_id: str | None = None

    def to_the_end(self) -> None:
        """Return once the job has ended. Errors: EnvironmentProblem where the job server is lost."""
        failures = 0
        while True:
            try:
                told = self._told
                asyncio.run(self._tail())
                while not self._info().status.is_terminal():
                    time.sleep(POLL_S)
                return
            except Exception as problem:  # aiohttp's, requests', Ray's: the way to the server
                failures = 1 if self._told > told else failures + 1
                if failures > RECONNECTS:
                    raise EnvironmentProblem(
                        f"lost the job server at {self._address} ({first_line(problem)}); job {self._job_id} may go "
                        f"on: ray job logs --address {self._address} --follow {self._job_id}"
                    ) from None
                time.sleep(RECONNECT_S)

    def outcome(self) -> Outcome:
        """How it ended."""
        with _clear_errors(self._address):
            info = self._info()
        if info.status == "SUCCEEDED":
            return Outcome(self._job_id, 0, self.run_id)
        if info.status == "STOPPED":
            return Outcome(self._job_id, INTERRUPTED, self.run_id, "it was stopped")
        if info.driver_exit_code is None:
            return Outcome(self._job_id, 1, self.run_id, _last_line(info.message or ""))
        code = info.driver_exit_code
        return Outcome(self._job_id, code if code > 0 else 128 - code, self.run_id)

    def _info(self) -> Any:
        return self._client.get_job_info(self._job_id)

    async def _tail(self) -> None:
        """The log begins anew with each connection; what was told already is left out."""
        skip = self._told
        async for chunk in self._client.tail_job_logs(self._job_id):
            new, skip = chunk[skip:], max(skip - len(chunk), 0)
            self._told += len(new)
            self._say(new)
            self._look_for_run(new)

    def _look_for_run(self, new: str) -> None:
        text = self._line + new
        for found in RUN.finditer(text):
            self.run_id = found.group(1)
        self._line = text.rpartition("\n")[2]


def _client(address: str) -> Any:
    headers = _token()
    _knock(address, headers)
    from ray.job_submission import JobSubmissionClient

    for name in CHATTY:
        for logger in [name, *(other for other in logging.root.manager.loggerDict if other.startswith(name))]:
            logging.getLogger(logger).setLevel(logging.ERROR)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # else RAY_ADDRESS would win over what was asked for
    with _clear_errors(address):
        return JobSubmissionClient(address, headers=headers)


def _token() -> dict[str, str]:
    """The header with the token that Ray's own commands would send, in their order.

    Errors: EnvironmentProblem where the file that RAY_AUTH_TOKEN_PATH names cannot be read: Ray would abort.
    """
    if os.environ.get(AUTH_MODE, "token").lower() != "token":
        return {}
    token = os.environ.get(TOKEN, "").strip()
    named = os.environ.get(TOKEN_PATH)
    if not token and named:
        try:
            token = Path(named).read_text().strip()
        except OSError as error:
            raise EnvironmentProblem(f"{TOKEN_PATH}={named}: {error.strerror}") from None
        if not token:
            raise EnvironmentProblem(f"{TOKEN_PATH}={named} is empty; write the cluster's token into it")
    if not token:
        with suppress(OSError):
            token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _knock(address: str, headers: Mapping[str, str]) -> None:
    """Is a job server there, and does it take the token? Ray itself would wait for minutes."""
    import requests

    try:
        reply = requests.get(f"{address}{ASKED}", headers=headers, timeout=(CONNECT_S, ANSWER_S))
    except requests.RequestException as error:
        refused = isinstance(error, requests.ConnectionError)
        reason = "nothing answers there" if refused else first_line(error)
        raise EnvironmentProblem(
            f"no Ray job server at {address} ({reason}); give the address of the head's dashboard, such as "
            "http://HEAD:8265"
        ) from None
    if reply.status_code == 401:
        _refused(address, "asks for a token, and there is none here")
    if reply.status_code == 403:
        _refused(address, "refuses the token")


def _refused(address: str, what: str) -> NoReturn:
    raise EnvironmentProblem(
        f"the cluster at {address} {what}; set {TOKEN}, or {TOKEN_PATH} to its file, as the cluster's nodes have it"
    )


@contextmanager
def _clear_errors(address: str) -> Iterator[None]:
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        _refused(address, "refuses the token")
    except (ConnectionError, requests.RequestException) as error:
        raise EnvironmentProblem(f"the job server at {address}: {first_line(error)}") from None
    except RuntimeError as error:
        raise EnvironmentProblem(f"the job server at {address}: {_last_line(str(error))}") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it did not start"])[-1].strip()


def link(parent: str, run_id: str) -> None:
    """Show a job's MLflow run under the run `parent`, which `mlflow run` opened for its submission."""
    from twinspire import mlflow_client

    client = mlflow_client.connect()
    with mlflow_client.clear_errors(client):
        client.set_tag(run_id, "mlflow.parentRunId", parent)
        client.set_tag(parent, "twinspire.run", run_id)
