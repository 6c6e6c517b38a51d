"""Where bundles come from: a folder, or the MLflow registry where an address starts with `models:/`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twinspire.bundle import Bundle, Manifest, check_canaries
from twinspire.bundle.manifest import MANIFEST, sha256
from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.versions import Retriever

SCHEME = "models:/"
BESIDE_FILES = 1.2  # what a loaded bundle needs of memory beside its files
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


class Sources:
    """Where bundles come from. `load` reads the bundle at an address; without one it is put on `device`."""

    def __init__(self, load: Callable[[str], Retriever] | None = None, device: str = "cpu") -> None:
        self.load = load or partial(load_bundle, device=device)
        self._keys_are_contents = load is None or load is load_bundle

    def identify(self, address: str) -> str:
        """Which content is at an address now: cheap to ask, and another one after every change.

        Errors: BundleError, RegistryError, EnvironmentProblem where nothing can be said.
        """
        if address.startswith(SCHEME):
            from twinspire.registry import resolve

            return resolve(address)
        if not self._keys_are_contents:
            return address
        Manifest.read(Path(address))
        return sha256(Path(address) / MANIFEST)[:16]

    def last_known(self, address: str) -> tuple[str, str] | None:
        """For an address in a registry that does not answer: the content that it had last, and a folder that has it."""
        if not address.startswith(SCHEME):
            return None
        from twinspire.registry import last_fetched

        found = last_fetched(address)
        return (found[0], str(found[1])) if found else None


def load_bundle(address: str, device: str = "cpu") -> Retriever:
    """Load a bundle onto `device`, and refuse one that is damaged, does not fit into memory or answers its canaries
    otherwise.

    Errors: BundleError, RegistryError, EnvironmentProblem: one line that says why.
    """
    folder, registered = Path(address), address.startswith(SCHEME)
    if registered:
        from twinspire.registry import fetch

        folder = fetch(address)
    require_memory(folder)
    bundle = Bundle.load(folder, verify=not registered, device=device)  # what was fetched has been verified
    check_canaries(bundle)
    return bundle


def require_memory(folder: Path) -> None:
    """Errors: EnvironmentProblem where the files of a bundle are more than the memory that there is."""
    needed = int(BESIDE_FILES * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    free = available_memory()
    if needed > free:
        raise EnvironmentProblem(
            f"{folder}: needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; "
            "drop an arm, or serve it from a larger machine"
        )


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, and of its control group where that has a limit."""
    if not _MEMORY.exists():
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _GROUP / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        held = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        used = int((_GROUP / "memory.current").read_text()) - int(held["inactive_file"])  # a cache that gives way
        free = min(free, int(most) - used)
    return free
