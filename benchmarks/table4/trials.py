"""The experiments: what their arms are, for the server as a YAML file and for the counterfactual in this process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from benchmarks.table4.market import bundle_of
from benchmarks.table4.shop import InProcess
from twinspire.index.variation import Variation

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from benchmarks.table4.shop import Catalogue
    from twinspire.bundle import Bundle


class Arm(NamedTuple):
    """What retrieves: one of the bundles, by its vectors or by words alone."""

    bundle: str
    retrieval: str = "vectors"
    personal: bool = False  # whether the shopper matters to it


ARMS = {
    "bm25": Arm("1-head", "lexical"),
    "1-head": Arm("1-head"),
    "2-head": Arm("2-head"),
    "1-head-p13n": Arm("1-head-p13n", personal=True),
}


class Shop(NamedTuple):
    """What arms add their candidates to: `k` of them, beside the shop's own or alone."""

    k: int
    own: bool


WHOLE = Shop(30, own=True)
# Six results, as on the screen of a phone: beside a hundred candidates of the shop, or with many of the arm, arms that
# differ little show nearly the same pages.
NARROW = Shop(6, own=False)


class Trial(NamedTuple):
    """Two arms, the control first."""

    name: str
    control: str
    treatment: str
    shop: Shop

    def declare(self, folder: Path, workdir: Path, lasting: timedelta | None = None) -> Path:
        """Write the experiment as the server reads it: running from now on for so long, or as a draft."""
        arms = [
            {
                "name": name,
                "bundle": str(bundle_of(workdir, arm.bundle).absolute()),
                "parameters": {"retrieval": arm.retrieval},
            }
            for name, arm in zip(self.names, (ARMS[self.control], ARMS[self.treatment]), strict=True)
        ]
        declared: dict[str, Any] = {
            "name": self.name,
            "unit": "user",
            "arms": arms,
            "status": "draft",
            "metrics": {"primary": "ucvr", "secondary": ["gmv_per_user", "qrr"]},
        }
        if lasting is not None:
            start = datetime.now(UTC)
            declared |= {"status": "running", "start": start, "end": start + lasting}
        path, beside = folder / f"{self.name}.yaml", folder / f".{self.name}.yaml"
        beside.write_text(yaml.safe_dump(declared, sort_keys=False))
        return beside.rename(path)

    @property
    def names(self) -> tuple[str, str]:
        """The arms' names; of two that are the same they still differ."""
        return (self.control, self.treatment) if self.control != self.treatment else (self.control, "the-same")


TRIALS = (
    Trial("bm25-or-dpsr", "bm25", "1-head", WHOLE),
    Trial("heads", "1-head", "2-head", NARROW),
    Trial("p13n", "1-head", "1-head-p13n", NARROW),
    Trial("a-a", "1-head", "1-head", WHOLE),
)


def retrieval(name: str, catalogue: Catalogue, bundles: dict[str, Bundle], k: int) -> InProcess:
    """An arm without a server."""
    arm = ARMS[name]
    bundle = bundles[arm.bundle].varied(Variation.model_validate({"retrieval": arm.retrieval}))
    return InProcess(catalogue, bundle, k, personal=arm.personal)
