"""Where Ray runs: the cluster that the environment names, or an embedded one on this machine."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_LOGICAL_CPUS = 8  # a Train worker, an actor pool and Ray Data's reads wait for each other for ever on 2


def quiet_environment() -> None:
    """What Ray reads from the environment, before it starts: no usage reports, no per-task chatter."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2", "1")
    os.environ.setdefault("RAY_maximum_startup_concurrency", "16")


def connect(*, dashboard: bool = False, log_to_driver: bool = False) -> bool:
    """Connect to Ray, starting an embedded one where no address is given; False if it was connected already.

    An embedded Ray has more logical CPUs than the machine has cores, so that no job waits for ever.
    """
    quiet_environment()
    import ray

    if ray.is_initialized():
        return False
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=log_to_driver, logging_level=logging.WARNING)
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            address="local",
            num_cpus=max(MIN_LOGICAL_CPUS, 2 * (os.cpu_count() or 1)),
            include_dashboard=dashboard,
            log_to_driver=log_to_driver,
            logging_level=logging.ERROR,
        )
    return True


@contextmanager
def session(*, dashboard: bool = False) -> Iterator[None]:
    """Ray for the length of a block; what was started here is ended here."""
    started = connect(dashboard=dashboard)
    try:
        yield
    finally:
        if started:
            import ray

            ray.shutdown()
