"""What each arm should serve, as a file that all replicas of a server follow.

Ray Serve gives an HTTP request to one replica, so a change of what is served cannot be a request to all. It is written
here, and every replica looks.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE = "arms.json"


class Wanted(BaseModel):
    """The bundle of an arm, a folder or models:/NAME@ALIAS, and contents of it that were rolled back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    avoid: tuple[str, ...] = ()


_ARMS = TypeAdapter(dict[str, Wanted])


class ArmsFile:
    """`arms.json` in a folder: written beside and renamed, changed by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder, folder / FILE

    def read(self) -> dict[str, Wanted]:
        """What is wanted, by arm; nothing where there is no file. Errors: EnvironmentProblem for an unreadable one."""
        try:
            return _ARMS.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise EnvironmentProblem(f"{self.path}: cannot be read ({str(error).splitlines()[0]})") from None

    @property
    def stamp(self) -> int:
        """Changes whenever the file does."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def start(self, bundles: Mapping[str, str]) -> None:
        """Want these bundles, by arm, and no others. What was rolled back of the same bundle stays rolled back."""
        with self._locked():
            before = self.read()
            kept = {arm: before[arm].avoid for arm in bundles if arm in before and before[arm].bundle == bundles[arm]}
            self._write({arm: Wanted(bundle=bundle, avoid=kept.get(arm, ())) for arm, bundle in bundles.items()})

    def want(self, arm: str, bundle: str) -> None:
        """Want a bundle for an arm, new or not, whatever was rolled back before."""
        with self._locked():
            self._write({**self.read(), arm: Wanted(bundle=bundle)})

    def avoid(self, arm: str, key: str) -> None:
        """Want no more the content `key` of an arm's bundle."""
        with self._locked():
            arms = self.read()
            if arm in arms:
                avoid = (*(one for one in arms[arm].avoid if one != key), key)
                self._write({**arms, arm: arms[arm].model_copy(update={"avoid": avoid})})

    def touch(self) -> None:
        """Let every replica look at what it follows, and at where that comes from. Errors: EnvironmentProblem."""
        try:
            os.utime(self.path)
        except OSError as error:
            raise EnvironmentProblem(f"{self.path}: cannot be touched ({error.strerror})") from None

    def drop(self, arm: str) -> None:
        """Want nothing for an arm."""
        with self._locked():
            self._write({name: wanted for name, wanted in self.read().items() if name != arm})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f".{FILE}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise EnvironmentProblem(f"{self.path}: cannot be written ({error.strerror})") from None

    def _write(self, arms: Mapping[str, Wanted]) -> None:
        beside = self.path.with_name(f".{FILE}.{os.getpid()}")
        beside.write_bytes(_ARMS.dump_json(dict(arms), indent=2))
        beside.replace(self.path)
