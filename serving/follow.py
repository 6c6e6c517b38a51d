"""A thread that keeps a replica serving what is wanted: loads beside, verifies, warms up, swaps one reference."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.declared import Declarations
from serving.versions import DEFAULT_ARM
from serving.wanted import Wanted
from twinspire.errors import EnvironmentProblem, RequestError, TwinspireError

if TYPE_CHECKING:
    from collections.abc import Collection

    from serving.service import Service
    from serving.sources import Sources
    from serving.versions import Retriever
    from serving.wanted import ArmsFile
    from twinspire.experiments.folder import ExperimentFolder

LOOK_S = 0.25  # between two looks at the arms file and the experiments: a look is one stat a file
NICENESS = 10  # of the thread: loading gives way to answering

logger = logging.getLogger(__name__)


class Refused(NamedTuple):
    """A content that was not taken, and why."""

    key: str
    reason: str
    at: datetime

    def status(self) -> dict[str, Any]:
        """For /v1/status."""
        return {"key": self.key, "reason": self.reason, "at": self.at}


class Follower:
    """Follows an arms file, a folder of experiments, and what is at the addresses in them, which are asked every
    `every_s` seconds.

    A bundle that only experiments need is an arm whose name is its address. A content that is refused is not tried
    again until there is another one; the arm goes on with what it has.
    """

    def __init__(
        self,
        service: Service,
        file: ArmsFile,
        sources: Sources,
        every_s: float,
        experiments: ExperimentFolder | None = None,
    ) -> None:
        self._service, self._file, self._sources = service, file, sources
        self._experiments = Declarations(service, experiments)
        self._every_s = every_s
        self._stamp: object = None
        self._asked = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self.refused: dict[str, Refused] = {}
        self.unreachable: dict[str, str] = {}  # by arm, why its address could not be asked

    def first(self) -> None:
        """Load what is wanted now; from a registry that does not answer, what it gave last.

        Errors: TwinspireError of the first arm that cannot be served. An experiment that cannot run is refused.
        """
        self._stamp, self._asked = self._looked(), time.monotonic()
        for arm, wanted in self._file.read().items():
            try:
                key, address = self._sources.identify(wanted.bundle), wanted.bundle
            except EnvironmentProblem as error:
                last = self._sources.last_known(wanted.bundle)
                if last is None:
                    raise
                key, address = last
                self.unreachable[arm] = f"{error}; serving {address}, fetched from there last"
            self._take(arm, address, key)
        self._experiments.read()
        self._follow_all(but=set(self._service.versions.current))

    def start(self) -> None:
        """Follow from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the load that it may be in."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def step(self) -> None:
        """Look once, and do what is to be done."""
        stamp = self._looked()
        due = time.monotonic() - self._asked >= self._every_s
        if stamp == self._stamp and not due:
            return
        self._stamp, self._asked = stamp, time.monotonic()
        self._experiments.read()
        self._follow_all()

    def _follow_all(self, but: Collection[str] = ()) -> None:
        """Every arm that is wanted, and then the experiments; `but` those arms."""
        arms = self._wanted()
        for arm in set(self._service.versions.current) - set(arms):
            self._service.versions.drop(arm)
            self.refused.pop(arm, None)
            self.unreachable.pop(arm, None)
        for arm, wanted in arms.items():
            if arm not in but:
                self._follow(arm, wanted)
        reasons = {
            wanted.bundle: self.refused[arm].reason if arm in self.refused else self.unreachable[arm]
            for arm, wanted in arms.items()
            if arm in self.refused or arm in self.unreachable
        }
        self._experiments.settle(arms, reasons)

    def _wanted(self) -> dict[str, Wanted]:
        """By arm: those of the file, and the bundles that experiments need beside them."""
        arms = self._file.read()
        there = {wanted.bundle for wanted in arms.values()}
        return arms | {
            address: Wanted(bundle=address) for address in sorted(self._experiments.bundles()) if address not in there
        }

    def _looked(self) -> object:
        return self._file.stamp, self._experiments.stamp

    @property
    def refused_experiments(self) -> dict[str, str]:
        """By file, why an experiment does not run as it is declared."""
        return self._experiments.refused

    def roll_back(self, arm: str) -> None:
        """Let the previous version of an arm answer again until its address has another content; here at once, in the
        other replicas soon.

        Errors: RequestError for an arm that has none; EnvironmentProblem where it cannot be kept.
        """
        rolled_back = self._service.versions.of(arm)
        self._service.roll_back(arm)
        self._file.avoid(arm, rolled_back.key)

    def want(self, arm: str, bundle: str) -> None:
        """Let an arm, new or not, serve the bundle at an address, soon, in every replica.

        Errors: TwinspireError where there is none at it; EnvironmentProblem where it cannot be kept.
        """
        self._sources.identify(bundle)
        self._file.want(arm, bundle)

    def look(self) -> None:
        """Ask now where the bundles come from, in every replica. Errors: EnvironmentProblem."""
        self._file.touch()

    def drop(self, arm: str) -> None:
        """Serve an arm no more. Errors: RequestError for the default arm, or one that there is not."""
        self._service.versions.of(arm)
        if arm == DEFAULT_ARM:
            raise RequestError("arm", "the default arm always serves")
        self._file.drop(arm)

    def status(self) -> dict[str, Any]:
        """For /v1/status: what was refused last, by arm, and addresses that do not answer."""
        return {
            "refused_bundles": {arm: refused.status() for arm, refused in self.refused.items()},
            "unreachable": dict(self.unreachable),
        }

    def _run(self) -> None:
        if hasattr(os, "setpriority") and hasattr(threading, "get_native_id"):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._stop.wait(LOOK_S):
            try:
                self.step()
            except EnvironmentProblem as error:
                logger.error("%s", error)
            except Exception:
                logger.exception("the arms could not be followed")

    def _follow(self, arm: str, wanted: Wanted) -> None:
        versions = self._service.versions
        current, previous = versions.current.get(arm), versions.previous.get(arm)
        try:
            key = self._sources.identify(wanted.bundle)
        except TwinspireError as error:
            self.unreachable[arm] = str(error)
            key = ""
        else:
            self.unreachable.pop(arm, None)
        if current is not None and current.key in wanted.avoid and previous and previous.key not in wanted.avoid:
            versions.roll_back(arm)
            current = versions.current[arm]
        if not key or key in wanted.avoid or (current is not None and current.key == key):
            return
        if arm in self.refused and self.refused[arm].key == key:
            return
        if previous is not None and previous.key == key:
            versions.roll_back(arm)
            return
        try:
            self._take(arm, wanted.bundle, key)
        except TwinspireError as error:
            self._refuse(arm, key, str(error))
        except Exception as error:
            logger.exception("%s could not be loaded", wanted.bundle)
            self._refuse(arm, key, f"{type(error).__name__}: {error}")

    def _take(self, arm: str, address: str, key: str) -> None:
        self._service.put(arm, self._load(arm, address), address, key)
        self.refused.pop(arm, None)
        gc.freeze()  # what a bundle holds stays: no collection need look at it

    def _load(self, arm: str, address: str) -> Retriever:
        try:
            return self._sources.load(address)
        except EnvironmentProblem:
            if arm not in self._service.versions.previous:
                raise
        # After the error is gone, which holds what was loaded until then.
        self._service.versions.forget(arm)  # perhaps its memory is what is wanting
        return self._sources.load(address)

    def _refuse(self, arm: str, key: str, reason: str) -> None:
        logger.error("arm %s: %s", arm, reason)
        self.refused[arm] = Refused(key, reason, datetime.now(UTC))
