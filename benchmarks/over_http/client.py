"""The client: wrk in one thread, beside the server on the same cores."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

SCRIPT = Path(__file__).with_name("client.lua")


@dataclass(frozen=True)
class Figures:
    """What wrk measured at one concurrency; milliseconds. `failed` counts answers other than 2xx and 3xx too."""

    per_second: float
    p50_ms: float
    p99_ms: float
    bytes_each: float
    failed: int


def require_wrk() -> None:
    """End with one line where wrk is missing."""
    if shutil.which("wrk") is None:
        raise click.ClickException("wrk is missing; install it: apt-get update && apt-get install -y wrk")


def load(url: str, bodies: Path, concurrency: int, seconds: float) -> Figures:
    """Post `bodies` to /v1/search over `concurrency` connections for whole seconds."""
    whole = max(1, round(seconds))
    arguments = ["wrk", "-t1", f"-c{concurrency}", f"-d{whole}s", "--timeout", "10s", "-s", str(SCRIPT)]
    told = subprocess.run(
        [*arguments, f"{url}/v1/search", str(bodies)], capture_output=True, text=True, timeout=whole + 60, check=True
    ).stdout
    line = next(line for line in told.splitlines() if line.startswith("FIGURES "))
    figures = json.loads(line.removeprefix("FIGURES "))
    done = max(figures["requests"], 1)
    return Figures(
        figures["requests"] / figures["seconds"],
        figures["p50_ms"],
        figures["p99_ms"],
        figures["bytes"] / done,
        figures["failed"],
    )
