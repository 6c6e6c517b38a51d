"""The market, and three bundles of its log: the paper's one head, two heads, and the shopper's profile in the tower."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipelines.fit import fit
from twinspire.config import load_config
from twinspire.simulation import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

# Words are written into the bundles, so that an arm may rank by them alone and the shared ranking counts them.
SHARED = ("model.dim=64", "retrieval.lexical=0.3")
BUNDLES = {
    "1-head": ("dpsr", ()),
    "2-head": ("dpsr", ("model.heads=2",)),
    "1-head-p13n": ("dpsr-p", ()),
}
RANKING = "1-head-p13n"  # of the bundles the one by which the shop ranks in all arms
SIZES = {"items": 8000, "users": 60_000, "interactions": 400_000, "seed": 0}


def make(
    workdir: Path, sizes: dict[str, int], settings: tuple[str, ...], say: Console
) -> tuple[Path, dict[str, float]]:
    """The market's folder and the seconds of each fit; what is in `workdir` already is taken as it is."""
    market, seconds = workdir / "market", {}
    if not (market / "truth" / "truth.json").is_file():
        say.print(f"[bold]simulate[/bold] {', '.join(f'{size:,} {name}' for name, size in sizes.items())}")
        simulate(market, **sizes)  # type: ignore[arg-type]
    for name, (config, own) in BUNDLES.items():
        folder = bundle_of(workdir, name)
        if not (folder / "manifest.json").is_file():
            every = (*SHARED, *own, *settings)
            say.print(f"[bold]fit {name}[/bold]: --config {config} --set {' --set '.join(every)}")
            started = time.monotonic()
            fit(market, folder, load_config(config, every), quarantine=workdir / "quarantine")
            seconds[name] = round(time.monotonic() - started, 1)
    return market, seconds


def bundle_of(workdir: Path, name: str) -> Path:
    """Where a bundle is."""
    return workdir / "bundles" / name
