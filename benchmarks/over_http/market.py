"""A catalogue of a million items with its bundle, and the requests that the client sends: real queries of its log."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from twinspire.bundle.canaries import CANARIES
from twinspire.bundle.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

K = 100
REQUESTS = 4096
LONGEST_HISTORY = 10
# A log of a modest length and one pass over it: what is measured here is speed, not the quality of answers.
LOG = {"users": 20_000, "interactions": 400_000, "seed": 7}
FIT = ("model.dim=64", "index.exact_up_to=0", "training.rounds=2", "training.refit=false")
KINDS = ("nobody", "known", "told")  # no shopper; a user id that the bundle remembers; a profile and a history


def make(workdir: Path, items: int, say: Console) -> tuple[Path, Path]:
    """The market's folder and its bundle's, built where they are not there yet."""
    market, bundle = workdir / f"market-{items}", workdir / f"bundle-{items}"
    if not (market / "truth" / "truth.json").is_file():
        say.print(f"simulate {items:,} items into {market}")
        shutil.rmtree(market, ignore_errors=True)
        sizes = [argument for name, value in LOG.items() for argument in (f"--{name}", str(value))]
        _twinspire(workdir, "simulate", "--items", str(items), *sizes, "--out", str(market))
    if not (bundle / "manifest.json").is_file():
        say.print(f"fit into {bundle}")
        settings = [argument for setting in FIT for argument in ("--set", setting)]
        _twinspire(workdir, "fit", "--data", str(market), "--out", str(bundle), *settings)
    return market, bundle


def vectors_alone(bundle: Path) -> Path:
    """The same bundle without words, memory and trend."""
    files = orjson.loads((bundle / MANIFEST).read_bytes())["files"]
    del files[CANARIES]  # which are answered otherwise
    return linked(bundle, bundle.with_name(f"{bundle.name}-vectors"), fusion={}, files=files)


def linked(bundle: Path, target: Path, **changes: Any) -> Path:
    """A bundle that differs in its manifest: links to the files that the manifest names, in place of `target`."""
    manifest = orjson.loads((bundle / MANIFEST).read_bytes()) | changes
    shutil.rmtree(target, ignore_errors=True)
    for name in manifest["files"]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).hardlink_to(bundle / name)
    (target / MANIFEST).write_bytes(orjson.dumps(manifest))
    return target


def _twinspire(workdir: Path, *arguments: str) -> None:
    """Run a command in `workdir`, where its MLflow store then lies."""
    subprocess.run([sys.executable, "-m", "twinspire", *arguments], check=True, cwd=workdir)


def requests(market: Path, k: int = K, seed: int = 0) -> list[dict[str, Any]]:
    """Bodies for /v1/search, drawn from the log's searches: half with no shopper, the others half known, half told."""
    searches = (
        pl.scan_parquet(market / "interactions" / "*.parquet")
        .select("query", "user_id", "timestamp")
        .unique()
        .sort("timestamp", "query", "user_id")
        .collect()
    )
    clicks = (
        pl.scan_parquet(market / "interactions" / "*.parquet")
        .filter(pl.col("event") == "click", pl.col("user_id").is_not_null())
        .sort("timestamp")
        .group_by("user_id")
        .agg(pl.col("item_id").tail(LONGEST_HISTORY), pl.col("timestamp").tail(LONGEST_HISTORY))
        .collect()
    )
    histories = {row["user_id"]: row for row in clicks.iter_rows(named=True)}
    profiles = {row.pop("user_id"): row for row in pl.read_parquet(market / "users.parquet").to_dicts()}
    rng = np.random.default_rng(seed)
    drawn = searches[rng.choice(len(searches), REQUESTS)].to_dicts()
    drawn_kinds = rng.choice(KINDS, REQUESTS, p=(0.5, 0.25, 0.25))
    bodies = []
    for search, kind in zip(drawn, drawn_kinds, strict=True):
        body: dict[str, Any] = {"query": search["query"], "k": k}
        user = search["user_id"]
        if user is not None and kind == "known":
            body["user"] = {"user_id": user}
        elif user is not None and kind == "told":
            body["user"] = {"profile": {name: value for name, value in profiles[user].items() if value is not None}}
            seen = histories.get(user, {"item_id": [], "timestamp": []})
            body["user"]["history"] = [
                {"item_id": item, "event": "click", "timestamp": moment}
                for item, moment in zip(seen["item_id"], seen["timestamp"], strict=True)
            ]
        bodies.append(body)
    return bodies


def kinds(bodies: list[dict[str, Any]]) -> dict[str, int]:
    """How many requests say nothing of the shopper, name them, or tell their profile and history."""
    users = [body.get("user") for body in bodies]
    known = sum(user is not None and "user_id" in user for user in users)
    nobody = sum(user is None for user in users)
    return {"without a shopper": nobody, "with a user id": known, "with a history": len(users) - nobody - known}


def write_requests(bodies: list[dict[str, Any]], path: Path) -> None:
    """One body a line, as the client reads them."""
    path.write_bytes(b"\n".join(orjson.dumps(body) for body in bodies) + b"\n")
