"""The Ray Serve application: one deployment, no hop; tower and index in each replica.

`serve deploy serving/deploy.yaml` and `twinspire serve` both build it with `build`.
"""

# No `from __future__ import annotations`: Serve reads the annotation of `build` as a class.

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from serving.endpoints import application
from serving.follow import Follower
from serving.service import Service
from serving.sources import Sources
from serving.versions import DEFAULT_ARM
from serving.wanted import ArmsFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.serve import Application as ServeApplication

    from serving.application import Application
    from serving.versions import Retriever

# A replica answers in batches, so it likes many requests at once; past this many the rest wait in the proxy.
MAX_ONGOING_REQUESTS = 256
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
    feedback_dir: str = "feedback"
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    cpus_per_replica: float = Field(1.0, gt=0)
    max_batch: int = Field(64, ge=1)


@serve.ingress()
class SearchDeployment:
    """Loads a bundle, warms it up, and answers HTTP; traffic comes only after that."""

    def __init__(self, settings: dict[str, Any], load: "Callable[[str], Retriever] | None" = None) -> None:
        given = Settings.model_validate(settings)
        self._service = Service(given.feedback_dir, max_batch=given.max_batch)
        file = ArmsFile(Path(given.state_dir))
        self._service.follower = Follower(self._service, file, Sources(load), given.follow_s)
        self._service.follower.first()
        self._service.follower.start()
        set_interpreter()

    def __serve_build_asgi_app__(self) -> "Application":
        return application(self._service)


def build(settings: Settings) -> "ServeApplication":
    """The Serve application for `settings`; what a Serve config file names as `import_path`."""
    return assemble(settings)


def assemble(settings: Settings, load: "Callable[[str], Retriever] | None" = None) -> "ServeApplication":
    """The Serve application for `settings`; `load` makes a bundle of its address, in the replica.

    Writes down what each arm should serve, which the replicas then follow.
    """
    state = Path(settings.state_dir).absolute()
    ArmsFile(state).start({DEFAULT_ARM: settings.bundle, **settings.arms})
    given = settings.model_dump() | {
        "state_dir": str(state),
        "feedback_dir": str(Path(settings.feedback_dir).absolute()),
    }
    options: dict[str, Any] = {
        "name": "search",
        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
        "max_constructor_retry_count": 1,  # a bundle that is refused once is refused again
        "ray_actor_options": {"num_cpus": settings.cpus_per_replica},
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
            "upscale_delay_s": 5,
            "downscale_delay_s": 120,
        }
    else:
        options["num_replicas"] = settings.min_replicas
    deployment = serve.deployment(**options)(SearchDeployment)
    return deployment.bind(given, load)
