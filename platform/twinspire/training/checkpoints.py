"""Checkpoints of a training: whole or absent, the newest kept, written by whoever trains now.

A checkpoint is a folder `NUMBER/` that was written beside and renamed. A training that was taken over (its driver was
killed, a new one runs) cannot write any more: the file `owner` names who may.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from twinspire.files import flush

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROGRESS, STATE, WEIGHTS, SEARCHED = "progress.json", "training.pt", "model.safetensors", "searched.safetensors"


@dataclass
class Progress:
    """Where a training stands; part of every checkpoint.

    `round` rounds of the phase are behind it and `step` steps of the one under way, whose losses add up to `loss`;
    `steps` counts all steps of all phases. `history` holds what was measured, a record for each round.
    """

    phase: str = "search"  # then "refit", then "done"
    round: int = 0
    step: int = 0
    loss: float = 0.0
    steps: int = 0
    best_round: int = 0
    best_mrr: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training in `folder`, which every machine that trains can read and write."""

    folder: Path

    def newest(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        return max(self.folder.glob("[0-9]*"), default=None)

    def own(self, owner: str) -> None:
        """From now on only `owner` may save."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / "owner.new", owner)
        (self.folder / "owner.new").replace(self.folder / "owner")

    def save(self, owner: str, progress: Progress, state: Mapping[str, Any]) -> None:
        """Write a checkpoint that takes the place of those before it. `state` is what `torch.save` takes.

        Errors: RuntimeError where somebody else has taken the training over.
        """
        self._save(owner, progress, lambda folder: torch.save(dict(state), folder / STATE))

    def finish(
        self,
        owner: str,
        progress: Progress,
        weights: Mapping[str, torch.Tensor],
        searched: Mapping[str, torch.Tensor],
    ) -> None:
        """Write the last checkpoint: the trained weights, and the `searched` ones, which never saw the validation
        window."""

        def write(folder: Path) -> None:
            for name, part in ((WEIGHTS, weights), (SEARCHED, searched)):
                save_file({key: value.detach().cpu().contiguous() for key, value in part.items()}, folder / name)

        self._save(owner, progress, write)

    def _save(self, owner: str, progress: Progress, write: Any) -> None:
        last = self.newest()
        number = int(last.name) + 1 if last else 1
        beside = self.folder / f"new-{owner}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write(beside)
        _write(beside / PROGRESS, json.dumps(asdict(progress)))
        for path in beside.iterdir():
            flush(path)
        if (self.folder / "owner").read_text() != owner:
            shutil.rmtree(beside)
            raise RuntimeError("another process has taken this training over")
        beside.rename(self.folder / f"{number:08d}")
        flush(self.folder)
        for path in self.folder.iterdir():
            if path.is_dir() and path.name != f"{number:08d}":  # older ones, and what others did not finish
                shutil.rmtree(path, ignore_errors=True)


def read_progress(checkpoint: Path) -> Progress:
    """Where the training stood."""
    return Progress(**json.loads((checkpoint / PROGRESS).read_text()))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `save` was given, in main memory."""
    state: dict[str, Any] = torch.load(checkpoint / STATE, weights_only=True, map_location="cpu")
    return state


def read_weights(checkpoint: Path, name: str = WEIGHTS) -> dict[str, torch.Tensor]:
    """What `finish` was given: the trained weights, or the `SEARCHED`."""
    weights: dict[str, torch.Tensor] = load_file(checkpoint / name)
    return weights


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    flush(path)
