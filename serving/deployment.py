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
from serving.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.serve import Application as ServeApplication

    from serving.application import Application
    from serving.service import Retriever

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


def load_bundle(uri: str) -> "Retriever":
    """Load a bundle from a folder, or from the MLflow registry where `uri` starts with `models:/`."""
    from twinspire.bundle import Bundle

    if uri.startswith("models:/"):
        from twinspire.registry import fetch

        return Bundle.load(fetch(uri))
    return Bundle.load(Path(uri))


def set_interpreter() -> None:
    """What a replica's Python runs with."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


class Settings(BaseModel):
    """The `args` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(description="A bundle folder that every node can read, or models:/NAME@alias.")
    feedback_dir: str = "feedback"
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    cpus_per_replica: float = Field(1.0, gt=0)
    max_batch: int = Field(64, ge=1)


@serve.ingress()
class SearchDeployment:
    """Loads a bundle, warms it up, and answers HTTP; traffic comes only after that."""

    def __init__(
        self, uri: str, feedback_folder: str, max_batch: int, load: "Callable[[str], Retriever]" = load_bundle
    ) -> None:
        self._service = Service(load(uri), feedback_folder, max_batch=max_batch)
        self._service.warm_up()
        set_interpreter()

    def __serve_build_asgi_app__(self) -> "Application":
        return application(self._service)


def build(settings: Settings) -> "ServeApplication":
    """The Serve application for `settings`; what a Serve config file names as `import_path`."""
    return assemble(settings, load_bundle)


def assemble(settings: Settings, load: "Callable[[str], Retriever]") -> "ServeApplication":
    """The Serve application for `settings`; `load` makes a bundle of its address, in the replica."""
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
    return deployment.bind(settings.bundle, str(Path(settings.feedback_dir).absolute()), settings.max_batch, load)
