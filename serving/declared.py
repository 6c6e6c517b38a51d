"""The experiments of a server as it follows their folder: which are declared, which run, why others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.versions import DEFAULT_ARM
from twinspire.errors import BundleError, EnvironmentProblem
from twinspire.experiments.assign import Plan, clashes
from twinspire.experiments.folder import Declared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.service import Service
    from serving.wanted import Wanted
    from twinspire.experiments.folder import ExperimentFolder
    from twinspire.experiments.spec import Experiment


class Declarations:
    """Follows a folder of experiments. One whose bundles are not there yet, or cannot be, leaves what it was before."""

    def __init__(self, service: Service, folder: ExperimentFolder | None) -> None:
        self._service, self._folder = service, folder
        self._declared = Declared()
        self._running: dict[str, Experiment] = {}  # by file
        self.refused: dict[str, str] = {}  # by file

    @property
    def stamp(self) -> object:
        """Changes whenever a file does."""
        return self._folder.stamp if self._folder else None

    def read(self) -> None:
        """Look at the files. A folder that cannot be read leaves everything as it is."""
        if self._folder is None:
            return
        try:
            self._declared = self._folder.read(self._running)
        except EnvironmentProblem as error:
            self._declared = Declared(self._running, {str(self._folder.path): str(error)})

    def bundles(self) -> set[str]:
        """Addresses that an arm of a declared or a running experiment needs."""
        every = [*self._declared.experiments.values(), *self._running.values()]
        return {arm.bundle for one in every for arm in one.arms if arm.bundle is not None}

    def settle(self, arms: Mapping[str, Wanted], reasons: Mapping[str, str]) -> None:
        """Run what can run, now that what could be loaded is; `reasons` say, by address, why a bundle could not be."""
        if self._folder is None:
            return
        keys = {wanted.bundle: arm for arm, wanted in arms.items()}
        keys |= {wanted.bundle: arm for arm, wanted in arms.items() if arm == DEFAULT_ARM}
        refused = dict(self._declared.refused)
        running: dict[str, Experiment] = {}
        for file, declared in self._declared.experiments.items():
            before = self._running.get(file)
            for one in (declared, before):
                if one is None:
                    continue
                reason = self._why_not(one, keys, reasons)
                if reason is None:
                    running[file] = one
                    break
                refused.setdefault(file, f"{file}: {reason}")
        files = sorted(running, key=lambda file: running[file] is self._declared.experiments[file])
        for place, reason in clashes([running[file] for file in files]).items():
            refused[files[place]] = f"{files[place]}: {reason}"
            del running[files[place]]
        self.refused = refused
        self._running = running
        self._service.splitter.follow(Plan(running.values()), keys)

    def _why_not(self, one: Experiment, keys: Mapping[str, str], reasons: Mapping[str, str]) -> str | None:
        for arm in one.arms:
            key = DEFAULT_ARM if arm.bundle is None else keys.get(arm.bundle, "")
            version = self._service.versions.current.get(key)
            if version is None:
                return f"arm {arm.name}: {reasons.get(arm.bundle or '', 'its bundle is not loaded')}"
            known = arm.parameters in version.variations
            try:
                varied = version.varied(arm.parameters)
            except BundleError as error:
                return f"arm {arm.name}: {error}"
            if varied is not version and not known:
                self._service.warm_up(varied)
        return None
