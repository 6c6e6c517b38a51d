"""Where Ray runs: the cluster that the environment names, or an embedded one on this machine."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twinspire import processes
from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIN_LOGICAL_CPUS = 8  # a Train worker, an actor pool and Ray Data's reads wait for each other for ever on 2
BESIDE_WORKERS = 6  # logical CPUs for what runs beside the workers
# Of an embedded Ray that lost its driver to a SIGKILL nothing comes back: what is left of it gives up sooner than after
# Ray's 60 seconds.
ORPHANS_END_S = 20
STARTS = (
    3  # a node that did not come up, on a machine that was busy or where a port was taken meanwhile, is tried again
)
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # More logical CPUs than cores means more worker processes than the raylet thinks normal.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "PYTHON worker processes have been started",
}


JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray's job server hands to a job's driver
SEEN_WITHIN_S = 60.0


def inside_job() -> bool:
    """Whether this process is the driver of a submitted Ray job: it runs elsewhere, in a folder that is thrown away."""
    return "job_submission_id" in json.loads(os.environ.get(JOB_CONFIG) or "{}").get("metadata", {})


def require_shared(folder: Path) -> None:
    """Does every node of the cluster that we are connected to see `folder`? What workers read and write is in there.

    Errors: EnvironmentProblem that names a node which does not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    probe = folder / f".seen-{secrets.token_hex(4)}"
    probe.touch()
    try:
        look = ray.remote(num_cpus=0, max_retries=0)(os.path.exists)
        for node in nodes:
            there = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            try:
                seen = ray.get(there.remote(str(probe)), timeout=SEEN_WITHIN_S)
            except ray.exceptions.RayError:  # a node that is lost meanwhile, or too busy to say
                continue
            if not seen:
                raise EnvironmentProblem(
                    f"{folder} is not shared: node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) does "
                    "not see it; give an --out on storage that every node mounts at the same path"
                )
    finally:
        probe.unlink()


def quiet_environment() -> None:
    """What Ray reads from the environment when it is imported and started: no usage reports, no chatter."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def quiet_data() -> None:
    """Ray Data's plans and progress are ours to tell."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def keep_data_actors_here() -> None:
    """Let this process's node have the actors that Ray Data keeps for good; call before any dataset is read.

    Each stays on the node of whoever needs it first. If that is a training's worker, its node is never idle, so that an
    autoscaler does not end it, and where it is lost Ray does not start the actor elsewhere. Ray 2.60 has no setting.
    """
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator
    from ray.data._internal.execution import node_trackers
    from ray.data._internal.stats import get_or_create_stats_actor

    coordinator.get_or_create_autoscaling_coordinator()
    get_or_create_stats_actor()
    node_trackers.get_or_create_actor_location_tracker()


def connect(*, workers: int = 1) -> bool:
    """Connect to Ray, starting an embedded one where no address is given; False if it was connected already.

    An embedded Ray has more logical CPUs than the machine has cores, and enough for `workers`, so that no job waits
    for ever.
    Errors: EnvironmentProblem where there is no Ray to be had.
    """
    quiet_environment()
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(ORPHANS_END_S))
    import ray

    if ray.is_initialized():
        return False
    embedded: dict[str, Any] = {}
    if not address:
        cpus = max(MIN_LOGICAL_CPUS, 2 * (os.cpu_count() or 1), workers + BESIDE_WORKERS)
        embedded = {"num_cpus": cpus, "include_dashboard": False}
    with warnings.catch_warnings(), _without_stderr():
        warnings.simplefilter("ignore")
        init(address or "local", **embedded)
        quiet_data()
    return True


def init(address: str, **options: Any) -> None:
    """`ray.init`, once more where an own node (`local`) did not come up; of one that did not, no process stays.

    Errors: EnvironmentProblem where there is no Ray to be had.
    """
    import ray

    for left in reversed(range(STARTS if address == "local" else 1)):
        before = processes.descendants(os.getpid())
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
            return
        except Exception as error:  # Ray raises plain Exceptions too
            ray.shutdown()
            processes.end(processes.descendants(os.getpid()) - before)
            if not left:
                where = "Ray did not start" if address == "local" else f"no Ray answers at {address} (RAY_ADDRESS)"
                raise EnvironmentProblem(f"{where}: {str(error).strip().splitlines()[0]}") from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Ray's C++ core announces its log level on file descriptor 2; failures come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def session(*, workers: int = 1) -> Iterator[None]:
    """Ray for the length of a block; what was started here is ended here."""
    started = connect(workers=workers)
    try:
        yield
    finally:
        if started:
            import ray

            ray.shutdown()
