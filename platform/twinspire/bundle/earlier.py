"""An earlier bundle as the start of a new fit: whether its weights can be begun with, and those weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from twinspire.bundle.bundle import read_items
from twinspire.bundle.manifest import MANIFEST, Manifest, sha256
from twinspire.errors import ConfigError
from twinspire.features.dictionaries import Dictionaries
from twinspire.features.encodings import id_bags
from twinspire.features.spec import Id
from twinspire.training.build import architecture, new_model
from twinspire.training.warm import Keys, carried, own_rows, why_not

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    import torch

    from twinspire.config import Config
    from twinspire.features.encode import Encoded

SHAPING = ("text", "model", "loss", "negatives", "retrieval")  # sections that both fits must share
WARM_STARTS = "warm_starts"  # of a manifest's training: in a row, since the last full one


@dataclass(frozen=True)
class Earlier:
    """What a new fit reads of an earlier bundle."""

    folder: Path
    manifest: Manifest
    checksum: str

    @classmethod
    def read(cls, folder: Path) -> Earlier:
        """Verify a bundle folder. Errors: BundleError."""
        manifest = Manifest.read(folder)
        manifest.verify(folder)
        return cls(folder, manifest, sha256(folder / MANIFEST))

    @property
    def warm_starts(self) -> int:
        """Warm starts in a row behind it."""
        return int(self.manifest.training.get(WARM_STARTS, 0))

    def keys(self) -> Keys:
        """What its table rows mean."""
        dictionaries, items = Dictionaries.load(self.folder), read_items(self.folder)
        least = next((feature.min_count for feature in dictionaries.config.item if isinstance(feature, Id)), 1)
        bags, _ = id_bags(items["clicks"].to_numpy(), least)
        return Keys(dictionaries, own_rows(items["item_id"], bags))

    def weights(self, encoded: Encoded, item_ids: pl.Series, config: Config) -> dict[str, torch.Tensor]:
        """The start of a model over a newly encoded dataset whose catalogue is `item_ids` (n,)."""
        dictionaries = encoded.dictionaries
        items = encoded.store.items
        own = own_rows(item_ids, items["item.id"]) if "item.id" in items else item_ids.head(0)
        model = new_model(dictionaries, config.model, seed=config.training.seed, sparse=False)
        return carried(self.keys(), load_file(self.folder / "model.safetensors"), Keys(dictionaries, own), model)

    def why_not(self, encoded: Encoded, config: Config, taught_by: str | None) -> str | None:
        """Why a fit cannot begin with its weights; None where it can."""
        theirs, ours = self.manifest.config, config.model_dump(mode="json")
        for section in SHAPING:
            if theirs.get(section) != ours[section]:
                return f"its section {section} of the config is another"
        if self.manifest.training.get("teacher") != taught_by:
            return "it had another teacher" if taught_by else "it had a teacher"
        if not encoded.meta.positives or encoded.meta.titles:
            return "the log is too short"
        before, now = Dictionaries.load(self.folder), encoded.dictionaries
        return why_not(before, self.manifest.architecture, now, architecture(now, config.model))


def begins_warm(earlier: Earlier, encoded: Encoded, config: Config, taught_by: str | None) -> tuple[bool, str]:
    """Whether a fit begins with an earlier bundle's weights, and why in a few words, as `training.start` has it.

    Errors: ConfigError where it must and cannot.
    """
    start = config.training.start
    if start == "full":
        return False, "full: as configured"
    if (reason := earlier.why_not(encoded, config, taught_by)) is not None:
        if start == "warm":
            raise ConfigError(
                f"training.start: warm cannot begin with {earlier.folder}: {reason}; use auto or full, or what made it"
            )
        return False, f"full: {earlier.folder.name} cannot be begun with, {reason}"
    if start == "auto" and earlier.warm_starts + 1 >= config.training.full_every:
        return False, f"full: {earlier.warm_starts} warm starts lie behind"
    return True, f"warm: from the weights of {earlier.manifest.name} {earlier.manifest.version}"
