"""Looks at the guardrails of running experiments and stops what breaks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinspire.errors import DatasetError, ExperimentError
from twinspire.experiments import store
from twinspire.experiments.analysis import check_guardrails
from twinspire.experiments.spec import read_experiment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.experiments.spec import Experiment


def look(experiments: Path, events: Path) -> Iterator[str]:
    """One look at all running experiments; a line for each arm that was stopped, and each file that cannot be read.

    Errors: ExperimentError for a folder that is not there.
    """
    if not experiments.is_dir():
        raise ExperimentError(f"--experiments {experiments}: there is no such folder")
    if not events.is_dir():
        raise ExperimentError(f"--events {events}: no folder there; `twinspire serve --events DIR` makes one")
    for path in sorted(path for path in experiments.iterdir() if path.suffix in store.SUFFIXES):
        try:
            experiment = read_experiment(path)
        except ExperimentError as error:
            yield str(error)
            continue
        if experiment.status == "running" and experiment.kind == "split":
            yield from _look_at(experiments, events, experiment)


def _look_at(experiments: Path, events: Path, experiment: Experiment) -> Iterator[str]:
    try:
        guards = check_guardrails(events, experiment)
    except DatasetError:
        return  # nobody came yet
    done = {one.get("arm") for one in store.decisions(experiments, experiment.name) if one["action"] == "stop arm"}
    for arm in dict.fromkeys(guard.arm for guard in guards if guard.stops and guard.arm not in done):
        reasons = [guard for guard in guards if guard.arm == arm and guard.stops]
        reason = "; ".join(f"{guard.name} {guard.limit:g}: {guard.worst:.2%} {guard.title}" for guard in reasons)
        store.stop_arm(experiments, experiment.name, arm, reason)
        yield f"{experiment.name}: stopped {arm}: {reason}"
        if len(experiment.arms) == 2:
            return
