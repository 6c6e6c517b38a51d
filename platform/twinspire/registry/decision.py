"""What the gates said of a version, and that it is kept in MLflow, for refusals too."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from twinspire.registry.gates import Gate, GateConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from twinspire.registry.versions import Version

FOLDER = "decisions"  # where a run keeps them
GATE_TAG = "gate "
_LONGEST = 2000  # characters of a tag


class Decision(BaseModel):
    """A verdict: `candidate` and `champion` (None: there was none) are `models:/NAME/VERSION`.

    `passed` is what the gates said. `forced` is the reason for a promotion in spite of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    candidate: str
    champion: str | None
    passed: bool
    gates: tuple[Gate, ...]
    config: GateConfig
    dataset: str
    dataset_fingerprint: str
    at: datetime
    run_id: str
    forced: str | None = None

    @property
    def version(self) -> int:
        """Number of the candidate."""
        return int(self.candidate.rpartition("/")[2])

    @property
    def champion_version(self) -> int | None:
        """Number of the champion that it was judged against."""
        return int(self.champion.rpartition("/")[2]) if self.champion else None

    @property
    def outcome(self) -> str:
        """`passed`, `refused` or `forced`."""
        if self.forced is not None:
            return "forced"
        return "passed" if self.passed else "refused"

    @property
    def refusals(self) -> list[str]:
        """A line for each gate that did not pass."""
        return [f"{gate.name}: {gate.reason}" for gate in self.gates if not gate.passed]

    def line(self) -> str:
        """All of it in one line."""
        against = self.champion or "no champion"
        failed = len(self.refusals)
        told = "every gate passed" if not failed else f"{failed} of {len(self.gates)} gates refused it"
        told = told if self.gates else "not judged"
        return f"{self.candidate} against {against}: {self.outcome}, {told}"


def keep(client: MlflowClient, version: Version, decision: Decision, files: tuple[Path, ...] = ()) -> None:
    """As tags of the version (the last decision's) and as a file of its run, beside those of earlier decisions."""
    folder = f"{FOLDER}/{decision.name}-{decision.version}-{decision.at:%Y%m%dT%H%M%S%f}"
    with tempfile.TemporaryDirectory(prefix="twinspire-") as scratch:
        path = Path(scratch) / "decision.json"
        path.write_text(decision.model_dump_json(indent=2), encoding="utf-8")
        for file in (path, *files):
            client.log_artifact(version.run_id, str(file), folder)
    for key, value in _tags(decision, folder).items():
        client.set_model_version_tag(version.name, str(version.version), key, value[:_LONGEST])


def _tags(decision: Decision, folder: str) -> dict[str, str]:
    tags = {
        "decision": decision.outcome,
        "decision_at": decision.at.isoformat(timespec="seconds"),
        "decision_against": decision.champion or "no champion",
        "decision_file": f"{folder}/decision.json",
        "decision_reasons": "; ".join(decision.refusals) or ("every gate passed" if decision.gates else "not judged"),
        "decision_forced": decision.forced or "",
    }
    for gate in decision.gates:
        key = GATE_TAG + "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in gate.name.replace("@", "_at_"))
        tags[key] = f"{'passed' if gate.passed else 'refused'}: {gate.reason}"
    return tags
