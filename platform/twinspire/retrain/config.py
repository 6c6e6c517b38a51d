"""What the daily loop has instead of the defaults of a single fit and a single promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinspire.config import Config

HOLDOUT_DAYS = 1.0
MIN_GAIN = -0.02


def daily(config: Config) -> Config:
    """The config with the loop's defaults where it does not say otherwise.

    The log's last day is held out, and the candidate is judged on it. A candidate that is as good as the champion takes
    its place: it knows newer items and clicks, so the gain that is asked for is a little below zero, surely.
    """
    log, gates = config.log, config.gates
    if "holdout_days" not in log.model_fields_set and log.until is None:
        log = log.model_copy(update={"holdout_days": HOLDOUT_DAYS})
    if "min_gain" not in gates.model_fields_set:
        gates = gates.model_copy(update={"min_gain": MIN_GAIN})
    return config.model_copy(update={"log": log, "gates": gates})
