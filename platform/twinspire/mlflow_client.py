"""The way to MLflow: a client that answers soon or says why not, and errors as one clear line."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from twinspire.cluster import inside_job
from twinspire.errors import EnvironmentProblem, RegistryError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

SECONDS_TO_CONNECT = 5.0
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
THERE_ALREADY = "RESOURCE_ALREADY_EXISTS"
_SQLITE = "sqlite:///"
_PORTS = {"http": 80, "https": 443}
_SQLITE_MAGIC = b"SQLite format 3\x00"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an SQLite file in the working directory, as MLflow itself has it.

    Errors: EnvironmentProblem in a Ray job without the variable, whose working directory is thrown away.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri and inside_job():
        raise EnvironmentProblem(
            "MLFLOW_TRACKING_URI is not set for this job, whose working folder is thrown away; set it where you submit "
            "from, in the job's runtime env, or on the nodes"
        )
    return uri or f"{_SQLITE}{Path.cwd() / 'mlflow.db'}"


def connect(uri: str | None = None, *, create: bool = False) -> MlflowClient:
    """A client for the tracking URI (`tracking_uri()` where None). An SQLite file is made only if `create`.

    Asks first whether somebody is there: MLflow itself would try again for minutes. Errors: EnvironmentProblem.
    """
    uri = uri or tracking_uri()
    for name in ("alembic", "mlflow"):  # else a new database prints every one of its migrations
        logging.getLogger(name).setLevel(logging.WARNING)
    if not sys.stderr.isatty():  # in a log, each of its steps would stand behind the other
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    parts = urlsplit(uri)
    if parts.scheme in _PORTS:
        _knock(uri, parts)
    elif uri.startswith(_SQLITE):
        _check_file(Path(uri.removeprefix(_SQLITE)), create=create)
    try:
        with quiet():
            return MlflowClient(uri)
    except MlflowException as error:
        raise EnvironmentProblem(f"MLflow at {uri}: {first_line(error)}") from None


@contextmanager
def clear_errors(client: MlflowClient) -> Iterator[None]:
    """MLflow's refusals as RegistryError, its failures as EnvironmentProblem."""
    try:
        yield
    except MlflowException as error:
        if error.error_code in (NOT_THERE, "INVALID_PARAMETER_VALUE"):
            raise RegistryError(f"MLflow at {client.tracking_uri}: {first_line(error)}") from None
        raise EnvironmentProblem(f"MLflow at {client.tracking_uri}: {first_line(error)}") from None
    except OSError as error:
        raise EnvironmentProblem(f"MLflow at {client.tracking_uri}: its files: {first_line(error)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of MLflow's own code: of its type hints, and of what SQLAlchemy and pandas will change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Any type hint is inferred", UserWarning)
        warnings.filterwarnings("ignore", ".*loader strategy is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", "Operation with range is deprecated", DeprecationWarning)
        yield


def artifact_root(uri: str) -> str | None:
    """Where a new experiment keeps artifacts: beside an SQLite file; None where the tracking server decides."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlartifacts").as_uri()


def _knock(uri: str, parts: SplitResult) -> None:
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return  # the proxy knows the way, this machine need not
    try:
        port = parts.port or _PORTS[parts.scheme]
        socket.create_connection((host, port), SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentProblem(
            f"MLflow at {uri} does not answer ({reason}); start it, or set MLFLOW_TRACKING_URI"
        ) from None


def _check_file(path: Path, *, create: bool) -> None:
    if path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(len(_SQLITE_MAGIC))
        except OSError as error:
            raise EnvironmentProblem(f"MLflow database {path}: {error.strerror}") from None
        if head and head != _SQLITE_MAGIC:
            raise EnvironmentProblem(f"{path} is no SQLite database; set MLFLOW_TRACKING_URI to MLflow's store")
    elif not create:
        raise EnvironmentProblem(
            f"no MLflow database at {path}; set MLFLOW_TRACKING_URI, or register a bundle here first"
        )
    elif path.is_dir() or not _can_be_made(path):
        raise EnvironmentProblem(f"MLflow database {path} cannot be made; set MLFLOW_TRACKING_URI to another place")


def _can_be_made(path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path.parent, os.W_OK)
