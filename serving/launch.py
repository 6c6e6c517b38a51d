"""`twinspire serve`: an own Ray on this machine, HAProxy in front, and at the end no process and no port left.

Ray Serve reads its switches from the environment when it is imported and hands them to its processes when they
start, so they are set before Ray is imported. HAProxy's files and side ports are our own, so that several servers on
one machine do not meet.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from serving.gate import Gate, open_gate
from serving.limits import MAX_WAIT_MS
from serving.logs import SLOW_MS
from serving.webhook import read_secret
from twinspire import cluster, processes
from twinspire.errors import BundleError, EnvironmentProblem, TwinspireError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from serving.versions import Retriever

NAME = "twinspire"
MOST_CONNECTIONS, SPARE_CONNECTIONS = 32_768, 100
PREFIX = "twinspire-"
STOP_WITHIN_S = 20.0
PROXY_STARTS = 3
# Options that are settings too.
COPIED = (
    "upscale_s", "downscale_s", "max_batch", "max_wait_ms", "rate_limit", "slow_ms", "device", "gpus_per_replica",
)  # fmt: skip
PATHS = ("api_keys", "admin_keys", "webhook_secret", "log_dir", "experiments_dir")  # the same, made absolute
OBJECT_STORE_BYTES = 100 << 20  # nothing of ours goes through it


@dataclass(frozen=True)
class Options:
    """What to serve and how. With `max_replicas` above `replicas`, Serve adds replicas under load."""

    bundle: str
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    max_replicas: int = 1
    upscale_s: float = 5.0
    downscale_s: float = 120.0
    arms: Mapping[str, str] = field(default_factory=dict)
    state_dir: str | None = None  # None: one of its own, for this run
    follow_s: float = 5.0
    proxy: Literal["haproxy", "http"] = "haproxy"
    events_dir: str = "events"
    experiments_dir: str | None = None
    dashboard_port: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    gpus_per_replica: float = 1.0
    max_batch: int = 64
    max_wait_ms: float = MAX_WAIT_MS
    rate_limit: float | None = None
    api_keys: str | None = None
    admin_keys: str | None = None
    webhook_secret: str | None = None
    log_dir: str | None = None
    slow_ms: float = SLOW_MS


def throughput_environment() -> dict[str, str]:
    """The switches that make Ray Serve fast; on a cluster, set them on every node before `ray start`."""
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.edge.middlewares",
        # A log line for each request to a Python process that counts them; the replicas count searches themselves.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Ray's workers give way to every other process (15); those that answer callers should not.
        "RAY_worker_niceness": "0",
        # A search on a replica that dies is asked of another one; so are events, which their ids make harmless.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # After three connections that a busy replica could not take, HAProxy would hold it for dead and ask Serve's own
        # proxy, a third as fast, until the replica is idle again. Of one that is dead, its checks tell; a retry helps.
        "RAY_SERVE_HAPROXY_OBSERVE_MARK_DOWN_ENABLED": "0",
        # Seconds in which a caller has to send something; Ray's hour would let idle callers use up all connections.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    }


def _own_environment(options: Options, folder: Path) -> dict[str, str]:
    """For one machine and one server: quick to stop, and nothing shared with another server."""
    own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0"}
    if options.proxy == "http":
        return own
    return own | {
        **throughput_environment(),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 1) // 2))),
        "RAY_SERVE_HAPROXY_MAXCONN": str(_most_connections()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(processes.free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(processes.free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(processes.free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _most_connections() -> int:
    """What HAProxy may open at once: it wants 2.5 file descriptors for each.

    Once a fifth of them are in use, those of clients and those to replicas, it opens a new connection to a replica for
    every request, which costs the replica a third of its answers; so it gets all that there are, within reason.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else hard * 2 // 5 - SPARE_CONNECTIONS
    return max(min(allowed, MOST_CONNECTIONS), 1)


def own_folder(root: Path = Path("/tmp")) -> Path:
    """A folder for HAProxy's files, with the number of this process inside.

    Its name is short because Ray adds 57 characters and HAProxy allows a socket's path 97.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    (folder / "owner").write_text(str(os.getpid()))
    return folder


def end_orphans(root: Path = Path("/tmp")) -> None:
    """End the HAProxy of a server that was killed before it could: nothing else would, and it holds the port."""
    for owner in root.glob(f"{PREFIX}*/owner"):
        with contextlib.suppress(OSError, ValueError):
            if not processes.exists(int(owner.read_text())):
                processes.end(processes.naming(str(owner.parent)))
                shutil.rmtree(owner.parent, ignore_errors=True)


class Server:
    """A running server; use it as a context manager. `say` gets one line at a time of what is going on."""

    def __init__(
        self,
        options: Options,
        *,
        say: Callable[[str], None] = lambda line: None,
        load: Callable[[str], Retriever] | None = None,
    ) -> None:
        self.options = options
        self.metrics_url = self.proxy_metrics_url = ""
        self.gate = Gate()
        self._say = say
        self._load = load
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """Where the API and the page are, seen from this machine."""
        host = self.options.host
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.options.port}"

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return once `/readyz` would say 200.

        Raises EnvironmentProblem where a port is taken, a folder or a GPU is not there, BundleError where the bundle is
        refused, ConfigError where the keys are.
        """
        self.gate = self._check()
        self._folder = own_folder()
        os.environ.update(_own_environment(self.options, self._folder))
        os.environ.pop("RAY_BACKEND_LOG_LEVEL", None)  # Ray announces it on stderr
        self._say("starting Ray")
        self._start_ray()
        self._say(f"loading {self.options.bundle}")
        self._deploy()

    def stop(self) -> None:
        """End every process that was started, HAProxy included; safe to call twice."""
        if self._folder is None:
            return
        started = processes.descendants(os.getpid())
        if "ray" in sys.modules:
            stopping = threading.Thread(target=_shut_down, daemon=True)
            stopping.start()
            stopping.join(STOP_WITHIN_S)
        # HAProxy outlives an actor that is killed, and is then nobody's child: its config file's name finds it.
        processes.end((started & _alive()) | processes.naming(str(self._folder)))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _check(self) -> Gate:
        """Raise what a replica would, before anything is started; the replicas read the keys for themselves."""
        if "ray.serve" in sys.modules:
            raise EnvironmentProblem("Ray Serve is in use in this process already; serve from a process of its own")
        if self.options.device == "cuda":
            require_gpus(self.options)
        end_orphans()
        processes.require_free(self.options.host, self.options.port)
        for bundle in (self.options.bundle, *self.options.arms.values()):
            in_a_folder = self._load is None and not bundle.startswith("models:/")
            if in_a_folder and not (Path(bundle) / "manifest.json").is_file():
                raise BundleError(f"{bundle}: no bundle there (manifest.json is missing); `twinspire fit` writes one")
        if self.options.experiments_dir is not None and not Path(self.options.experiments_dir).is_dir():
            raise EnvironmentProblem(f"{self.options.experiments_dir}: no folder there; make one for the experiments")
        read_secret(self.options.webhook_secret)
        return open_gate(self.options.api_keys, self.options.admin_keys, self.options.rate_limit)

    def _start_ray(self) -> None:
        metrics_port = processes.free_port()
        cluster.init(
            "local",
            num_cpus=max(os.cpu_count() or 1, self.options.max_replicas, self.options.replicas),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=self.options.dashboard_port is not None,
            dashboard_port=self.options.dashboard_port,
            _metrics_export_port=metrics_port,
        )
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        if self.options.proxy == "haproxy":
            port = os.environ["RAY_SERVE_HAPROXY_METRICS_PORT"]
            self.proxy_metrics_url = f"http://127.0.0.1:{port}/metrics"

    def _deploy(self) -> None:
        from ray import serve

        from serving.deployment import Settings, assemble

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        settings = Settings(
            bundle=_address(self.options.bundle),
            arms={arm: _address(bundle) for arm, bundle in self.options.arms.items()},
            state_dir=self.options.state_dir or str(self._folder),
            follow_s=self.options.follow_s,
            events_dir=str(Path(self.options.events_dir).absolute()),
            min_replicas=self.options.replicas,
            max_replicas=max(self.options.replicas, self.options.max_replicas),
            **{name: getattr(self.options, name) for name in COPIED},
            **{name: _absolute(getattr(self.options, name)) for name in PATHS},
        )
        _start_proxy(self.options.host, self.options.port)
        try:
            serve.run(assemble(settings, self._load), name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise _reason(serve.status()) from error


def require_gpus(options: Options) -> None:
    """Errors: EnvironmentProblem where there is no GPU, or not enough of them for all replicas: Ray would wait for more
    for ever."""
    import torch

    from twinspire.index import gpu

    gpu.require_gpu()
    there, share = torch.cuda.device_count(), options.gpus_per_replica
    most = there * int(1 / share + 1e-6)
    wanted = max(options.replicas, options.max_replicas)
    if wanted > most:
        raise EnvironmentProblem(
            f"--gpus-per-replica {share:g}: {there} GPU{'s' * (there > 1)} hold {most} such replicas, not {wanted}; "
            "give each a smaller share or start fewer"
        )


def _start_proxy(host: str, port: int) -> None:
    """A proxy that comes up too slowly is killed by the controller, which starts another; that one is waited for."""
    from ray import serve
    from ray.exceptions import RayError

    for left in reversed(range(PROXY_STARTS)):
        try:
            serve.start(http_options={"host": host, "port": port})
            return
        except (RuntimeError, RayError) as error:
            if not left:
                last = str(error).strip().splitlines()[-1]
                raise EnvironmentProblem(f"the proxy did not start, try once more: {last}") from error


def _address(bundle: str) -> str:
    return bundle if bundle.startswith("models:/") else str(Path(bundle).absolute())


def _absolute(file: str | None) -> str | None:
    return None if file is None else str(Path(file).absolute())


def _reason(status: Any) -> TwinspireError:
    """What a replica died of, in one line, from the traceback that Serve keeps."""
    told = "\n".join(
        deployment.message for app in status.applications.values() for deployment in app.deployments.values()
    )
    ours = re.findall(r"^(?:\S*\.)?(BundleError|EnvironmentProblem|\w+Error): (.+)$", told, re.MULTILINE)
    kind, message = (
        ours[-1] if ours else ("", "a replica did not start; see Ray's logs in /tmp/ray/session_latest/logs")
    )
    if kind == BundleError.__name__:
        return BundleError(message)
    named = kind and kind not in {known.__name__ for known in TwinspireError.__subclasses__()}
    return EnvironmentProblem(f"{kind}: {message}" if named else message)


def _shut_down() -> None:
    import ray

    try:
        if "ray.serve" in sys.modules:
            from ray import serve

            serve.delete(NAME)  # requests in flight are answered; serve.shutdown() would add only noise
    finally:
        ray.shutdown()


def _alive() -> set[int]:
    return processes.descendants(os.getpid()) | processes.descendants(1)
