"""The Ray Serve application: one deployment, no hop; tower and index in each replica.

`serve deploy serving/deploy.yaml` and `twinspire serve` both build it with `build`.
"""

# No `from __future__ import annotations`: Serve reads the annotation of `build` as a class.

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import BackpressureConfig

from serving import logs
from serving.connection import Connection
from serving.endpoints import application
from serving.export import Exporter
from serving.follow import Follower
from serving.gate import open_gate
from serving.limits import MAX_WAIT_MS
from serving.logs import SLOW_MS
from serving.service import Service
from serving.sources import Sources
from serving.versions import DEFAULT_ARM
from serving.wanted import ArmsFile
from serving.webhook import read_secret
from twinspire.experiments.folder import ExperimentFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.serve import Application as ServeApplication

    from serving.application import Application
    from serving.versions import Retriever

# Bounds of Serve's: as much as one HAProxy sends of its own accord comes in, past that Serve refuses. Searches do not
# come by them (see `Connection`), a replica bounds their queue itself.
MAX_ONGOING_REQUESTS = 4096
MAX_QUEUED_REQUESTS = 256
# Objects between two collections of garbage. A request that waits for its batch is some hundred objects that live on;
# at Python's 700, collections would look at them again and again, a tenth of the event loop's time.
GARBAGE_THRESHOLD = 50_000
# The search thread needs the GIL a few times a batch, to take it and to give it back. With Python's 5 ms it would wait
# until the event loop has sent all that it has to send, instead of searching meanwhile.
SWITCH_INTERVAL_S = 0.0001
# Ongoing requests a replica at which one more is started: batches are then well filled, the queue still short.
TARGET_ONGOING_REQUESTS = 32


def set_interpreter() -> None:
    """What a replica's Python runs with."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


class Settings(BaseModel):
    """The `args` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(description="A bundle folder that every node can read, or models:/NAME@alias.")
    arms: dict[str, str] = Field({}, description="More bundles, by the arm that asks for them.")
    state_dir: str = Field("state", description="A folder of all replicas: what each arm serves, changed at run time.")
    follow_s: float = Field(5.0, gt=0, description="Seconds between two looks at where the bundles come from.")
    events_dir: str = Field("events", description="A folder of all replicas for exposures and outcomes.")
    experiments_dir: str | None = Field(None, description="A folder of experiments, one YAML file each; followed.")
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    upscale_s: float = Field(5.0, ge=0, description="Seconds of too much load before a replica more is started.")
    downscale_s: float = Field(120.0, ge=0, description="Seconds of too little load before one is ended.")
    cpus_per_replica: float = Field(1.0, gt=0)
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where query tower and index of a replica are.")
    gpus_per_replica: float = Field(1.0, gt=0, le=1, description="With device cuda: the share of one GPU.")
    max_batch: int = Field(64, ge=1)
    max_wait_ms: float = Field(MAX_WAIT_MS, gt=0, description="A search that would wait longer is answered 503.")
    rate_limit: float | None = Field(None, gt=0, description="Searches a second for each key in each replica.")
    api_keys: str | None = Field(None, description="File of keys on every node; else the variable TWINSPIRE_API_KEYS.")
    admin_keys: str | None = Field(None, description="The same for /v1/admin/: TWINSPIRE_ADMIN_KEYS.")
    webhook_secret: str | None = Field(None, description="File on every node: the secret of MLflow's webhook.")
    log_dir: str | None = Field(None, description="Folder for the log of requests; without it, Ray's log folder.")
    slow_ms: float = Field(SLOW_MS, gt=0, description="A request that takes longer gets a line in the log.")


@serve.ingress()
class SearchDeployment:
    """Loads a bundle, warms it up, and answers HTTP; traffic comes only after that."""

    def __init__(self, settings: Settings, load: "Callable[[str], Retriever] | None" = None) -> None:
        # Keys are read here, in the replica: they are in no argument that Serve keeps, shows or logs.
        gate = open_gate(settings.api_keys, settings.admin_keys, settings.rate_limit)
        webhook = read_secret(settings.webhook_secret)
        logs.keep(settings.log_dir)
        self._service = Service(settings.events_dir, max_batch=settings.max_batch, max_wait_ms=settings.max_wait_ms)
        file = ArmsFile(Path(settings.state_dir))
        folder = ExperimentFolder(Path(settings.experiments_dir)) if settings.experiments_dir else None
        self._service.follower = Follower(
            self._service, file, Sources(load, settings.device), settings.follow_s, folder
        )
        self._service.follower.first()
        self._service.events.start()
        self._service.follower.start()
        log = logs.RequestLog(settings.slow_ms)
        self._app = application(self._service, gate=gate, log=log, names_requests=False, webhook=webhook)
        Connection.replica = self._app, self._service
        set_interpreter()
        Exporter(self._service, self._app, serve.get_replica_context().replica_tag)

    def __del__(self) -> None:
        """Serve calls it when a replica ends: what is kept of events becomes parts."""
        service = getattr(self, "_service", None)  # None where it could not be made
        if service is not None:
            service.close()

    def __serve_build_asgi_app__(self) -> "Application":
        return self._app


def build(settings: Settings) -> "ServeApplication":
    """The Serve application for `settings`; what a Serve config file names as `import_path`."""
    return assemble(settings)


def assemble(settings: Settings, load: "Callable[[str], Retriever] | None" = None) -> "ServeApplication":
    """The Serve application for `settings`; `load` makes a bundle of its address, in the replica.

    Writes down what each arm should serve, which the replicas then follow.
    """
    state = Path(settings.state_dir).absolute()
    ArmsFile(state).start({DEFAULT_ARM: settings.bundle, **settings.arms})
    absolute = {"state_dir": str(state), "events_dir": str(Path(settings.events_dir).absolute())}
    if settings.experiments_dir:
        absolute["experiments_dir"] = str(Path(settings.experiments_dir).absolute())
    options: dict[str, Any] = {
        "name": "search",
        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
        "max_queued_requests": MAX_QUEUED_REQUESTS,
        "backpressure_config": BackpressureConfig(status_code=503, retry_after_s=1),
        "max_constructor_retry_count": 1,  # a bundle that is refused once is refused again
        "ray_actor_options": {
            "num_cpus": settings.cpus_per_replica,
            "num_gpus": settings.gpus_per_replica if settings.device == "cuda" else 0,
        },
        "health_check_period_s": 10,
        "graceful_shutdown_timeout_s": 10,
        # Ray's metrics count the requests; a line for each would cost more than the search.
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }
    if settings.max_replicas > settings.min_replicas:
        options["autoscaling_config"] = {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": TARGET_ONGOING_REQUESTS,
            "upscale_delay_s": settings.upscale_s,
            "downscale_delay_s": settings.downscale_s,
        }
    else:
        options["num_replicas"] = settings.min_replicas
    deployment = serve.deployment(**options)(SearchDeployment)
    return deployment.bind(settings.model_copy(update=absolute), load)
