"""Starting and stopping experiments: their files change in one step, and every decision is kept with its reason."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from twinspire.errors import EnvironmentProblem, ExperimentError
from twinspire.experiments.assign import clashes
from twinspire.experiments.folder import ExperimentFolder
from twinspire.experiments.spec import read_experiment
from twinspire.files import flush, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.experiments.spec import Experiment

SUFFIXES = (".yaml", ".yml")
DECISIONS = "decisions.jsonl"


def find(folder: Path, name: str) -> tuple[Path, Experiment]:
    """The file of an experiment, and what it declares.

    Errors: ExperimentError for a name that no file has, or that a broken file may have.
    """
    if not folder.is_dir():
        raise ExperimentError(f"--experiments {folder}: there is no such folder")
    broken: list[str] = []
    names: list[str] = []
    for path in _files(folder):
        try:
            experiment = read_experiment(path)
        except ExperimentError as error:
            if path.stem == name:
                raise
            broken.append(str(error))
            continue
        names.append(experiment.name)
        if experiment.name == name:
            return path, experiment
    there = f"there are {', '.join(names)}" if names else "there is none"
    raise ExperimentError(f"no experiment {name!r} in {folder}; {there}" + (f"; {broken[0]}" if broken else ""))


def start(folder: Path, name: str, *, now: datetime | None = None) -> Experiment:
    """Set an experiment running; one without a start begins now.

    Errors: ExperimentError where it runs already, has been stopped, is over, or cannot run beside the folder's others.
    """
    path, experiment = find(folder, name)
    now = now or datetime.now(UTC)
    if experiment.status == "running":
        raise ExperimentError(f"{path.name}: status: {name} is running already")
    if experiment.status == "stopped":
        raise ExperimentError(
            f"{path.name}: status: {name} was stopped; start a new one, with a name and a salt of its own"
        )
    if experiment.end is not None and experiment.end <= now:
        raise ExperimentError(f"{path.name}: end: {experiment.end:%Y-%m-%d %H:%M} is over")
    running = experiment.model_copy(update={"status": "running", "start": experiment.start or now})
    _check_beside(folder, path, running)
    changes = {"status": "running"}
    if experiment.start is None:
        changes["start"] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    change(path, changes)
    record(folder, name, "start", now=now)
    return find(folder, name)[1]


def find_running(folder: Path, name: str) -> tuple[Path, Experiment]:
    """As `find`. Errors: ExperimentError where it does not run, too."""
    path, experiment = find(folder, name)
    if experiment.status != "running":
        raise ExperimentError(f"{path.name}: status: {name} is {experiment.status}, not running")
    return path, experiment


def stop(folder: Path, name: str, reason: str, *, now: datetime | None = None) -> Experiment:
    """Stop an experiment: all who are in it get the control. Its events stay, and can be reported on.

    Errors: ExperimentError where it does not run.
    """
    path, _ = find_running(folder, name)
    change(path, {"status": "stopped"})
    record(folder, name, "stop", reason=reason, now=now)
    return find(folder, name)[1]


def stop_arm(folder: Path, name: str, arm: str, reason: str, *, now: datetime | None = None) -> None:
    """Answer an arm's units as the control answers; with one treatment, stop the experiment.

    Units keep their arm, so that no other arm's units move. The file loses its comments.
    """
    path, experiment = find(folder, name)
    if len(experiment.arms) == 2:
        stop(folder, name, reason, now=now)
        return
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    control = data["arms"][0]
    for one in data["arms"][1:]:
        if one["name"] == arm:
            for key in ("bundle", "parameters"):
                one.pop(key, None)
                if key in control:
                    one[key] = control[key]
    _replace(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    record(folder, name, "stop arm", arm=arm, reason=reason, now=now)


def change(path: Path, values: dict[str, str]) -> None:
    """Set top-level keys to plain values; everything else, comments too, stays as it is."""
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        line = re.compile(rf"^{key}\s*:[^#\n]*?(?P<after>\s*(?:#.*)?)$", re.MULTILINE)
        if line.search(text):
            text = line.sub(lambda found, to=f"{key}: {value}": to + found["after"], text, count=1)  # type: ignore[misc]
        else:
            text = f"{text.rstrip()}\n{key}: {value}\n"
    _replace(path, text)


def record(folder: Path, name: str, action: str, *, now: datetime | None = None, **more: str) -> None:
    """Append a decision to `decisions.jsonl` in the folder of experiments."""
    line = {"time": now or datetime.now(UTC), "experiment": name, "action": action, **more}
    try:
        with (folder / DECISIONS).open("ab") as file:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise EnvironmentProblem(f"{folder / DECISIONS}: {error.strerror}") from None


def decisions(folder: Path, name: str) -> list[dict[str, Any]]:
    """What was decided about an experiment, the oldest first."""
    path = folder / DECISIONS
    if not path.is_file():
        return []
    return [line for text in path.read_bytes().splitlines() if (line := orjson.loads(text))["experiment"] == name]


def _check_beside(folder: Path, path: Path, experiment: Experiment) -> None:
    """Refuse what a server that follows the folder would refuse."""
    others = [one for file, one in ExperimentFolder(folder).read({}).experiments.items() if file != path.name]
    reason = clashes([*others, experiment]).get(len(others))
    if reason is not None:
        raise ExperimentError(f"{path.name}: {reason}")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))


def _replace(path: Path, text: str) -> None:
    """Write beside, check that it can be read, rename: a reader sees the old file or the new one."""
    try:
        with replacing(path) as beside:
            beside.write_text(text, encoding="utf-8")
            flush(beside)
            read_experiment(beside)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror}") from None
