"""A folder of experiments, one YAML file each, as it changes: what is sound is taken, what is not leaves the old."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twinspire.errors import EnvironmentProblem, ExperimentError
from twinspire.experiments.assign import clashes
from twinspire.experiments.spec import read_experiment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinspire.experiments.spec import Experiment

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Declared:
    """Experiments by file name, and by file name why a file was refused."""

    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class ExperimentFolder:
    """The files of a folder; those whose names begin with a dot are not looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a file comes, goes or changes; a few microseconds a file."""
        try:
            return tuple((file.name, stat.st_mtime_ns, stat.st_size) for file in self._files() if (stat := file.stat()))
        except OSError:
            return ()

    def read(self, before: Mapping[str, Experiment]) -> Declared:
        """What the files declare now. A file that is refused keeps the experiment that it had in `before`.

        Errors: EnvironmentProblem for a folder that cannot be read.
        """
        experiments: dict[str, Experiment] = {}
        refused: dict[str, str] = {}
        try:
            files = self._files()
        except OSError as error:
            raise EnvironmentProblem(f"{self.path}: the experiments cannot be read ({error.strerror})") from None
        for file in files:
            try:
                experiments[file.name] = read_experiment(file)
            except ExperimentError as error:
                refused[file.name] = str(error)
                if file.name in before:
                    experiments[file.name] = before[file.name]
        self._settle(experiments, refused, before)
        return Declared(experiments, refused)

    def _settle(
        self, experiments: dict[str, Experiment], refused: dict[str, str], before: Mapping[str, Experiment]
    ) -> None:
        """What clashes goes back to what it was, or is left out; what is new or changed gives way to the others."""
        order = sorted(experiments, key=lambda name: experiments[name] != before.get(name))
        while found := clashes([experiments[name] for name in order]):
            place, reason = next(iter(found.items()))
            name = order.pop(place)
            refused[name] = f"{self.path / name}: {reason}"
            if experiments[name] != before.get(name) and name in before:
                experiments[name] = before[name]
                order.insert(0, name)
            else:
                del experiments[name]

    def _files(self) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
