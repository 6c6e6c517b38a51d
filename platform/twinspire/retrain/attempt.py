"""One attempt to retrain: told from others by its data, config and code; a killed one is gone on with.

Nothing is written down of how far it came: each step leaves what the next one needs (a bundle folder, a comparison, a
registered version, the registry's aliases), whole or not at all, and finds what is there already.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinspire.files import replacing
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry.claims import CHAMPION, history
from twinspire.registry.decision import GATE_TAG
from twinspire.registry.versions import Version, search, to_version
from twinspire.work_folder import STATE, code_version

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.config import Config

KEY_TAG = "retrain_key"
SHORT = 8  # digits of the key in names
_REFUSED = "refused: "


@dataclass(frozen=True)
class Attempt:
    """An attempt to make a new version of `name` in `folder`."""

    folder: Path
    name: str
    key: str

    @property
    def label(self) -> str:
        """The bundle's name."""
        return f"{self.name}-{self.key[:SHORT]}"

    @property
    def bundle(self) -> Path:
        """Where its bundle lies."""
        return self.folder / self.label

    @property
    def comparison(self) -> Path:
        """Where its last comparison lies."""
        return self.folder / f"{self.label}.comparison.json"

    def start_from(self, champion: str | None) -> str | None:
        """The version whose weights it may begin with: the champion of when it was begun first, also after a kill."""
        note = self.folder / f"{self.label}.start.json"
        if not note.exists():
            write_text(json.dumps({"start": champion}), note)
        start: str | None = json.loads(note.read_text())["start"]
        return start

    def clear_others(self) -> list[str]:
        """Remove what earlier attempts left in the folder; gives the ids of the fits that nobody will go on with."""
        given_up = []
        size = len(self.label)
        for path in self.folder.glob(f".{self.name}-*.work"):
            if len(path.name) == size + len("..work") and self.label not in path.name:
                given_up += _fit_id(path)
                shutil.rmtree(path, ignore_errors=True)
        for note in self.folder.glob(f"{self.name}-*.start.json"):
            label = note.name.removesuffix(".start.json")
            if len(label) == size and label != self.label:
                shutil.rmtree(self.folder / label, ignore_errors=True)
                (self.folder / f"{label}.comparison.json").unlink(missing_ok=True)
                note.unlink()
        return given_up


def attempt_key(fingerprint: str, config: Config, teacher: str | None) -> str:
    """Of the data, the whole config (gates too), the teacher and the code: 32 hex digits."""
    whole = config.model_dump(mode="json")
    whole |= {"gates": config.gates.model_dump(mode="json"), "dataset": config.dataset.model_dump(mode="json")}
    told = json.dumps([fingerprint, whole, teacher, code_version()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Own:
    """What became of an attempt's version: `promoted` once, or `refused` for `reasons`, or neither yet."""

    version: Version
    promoted: bool
    reasons: list[str]


def own_version(name: str, key: str) -> Own | None:
    """The version that an attempt registered; None where it has none yet. Errors: EnvironmentProblem."""
    client = connect(create=True)
    with clear_errors(client):
        found = next(search(client, f"name = '{name}' AND tags.{KEY_TAG} = '{key}'"), None)
        # A search leaves the aliases out.
        version = to_version(client.get_model_version(name, str(found.version))) if found else None
    if version is None:
        return None
    promoted = CHAMPION in version.aliases or any(change.version == version.version for change in history(name))
    return Own(version, promoted, [] if promoted else refusals(version))


def refusals(version: Version) -> list[str]:
    """Why the gates refused a version, a line a reason; none where they have not."""
    if version.tags.get("decision") != "refused":
        return []
    return [
        f"{key.removeprefix(GATE_TAG)}: {told.removeprefix(_REFUSED)}"
        for key, told in sorted(version.tags.items())
        if key.startswith(GATE_TAG) and told.startswith(_REFUSED)
    ]


def write_text(text: str, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _fit_id(work: Path) -> list[str]:
    try:
        state: dict[str, Any] = json.loads((work / STATE).read_text())
    except (OSError, ValueError):
        return []
    return [str(state["fit_id"])]
