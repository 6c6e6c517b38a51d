"""The figures of a bundle and of an evaluation report, as MLflow metrics."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeGuard

from twinspire.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.bundle import Manifest


def bundle_figures(manifest: Manifest) -> dict[str, float]:
    """What the fit measured: the validation window and the index."""
    figures = {"index/recall_at_100": manifest.index.recall_at_100, "index/search_ms": manifest.index.search_ms}
    for key, value in manifest.training.items():
        if _is_figure(value):
            figures[f"validation/{key}" if "mrr" in key or "hit" in key else f"training/{key}"] = float(value)
    return figures


def report_figures(path: Path) -> dict[str, float]:
    """What an evaluation report says of its first system, the bundle: `test/METRIC`, by slice `test/SLICE/METRIC`.

    Takes what it knows from the JSON and passes over the rest. Errors: RegistryError for a file that is no report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RegistryError(f"report {path}: {error.strerror}") from None
    except ValueError:
        raise RegistryError(f"report {path}: not JSON; give what `twinspire evaluate --out` wrote") from None
    figures = dict(_walk(report)) if isinstance(report, dict) else {}
    if not figures:
        raise RegistryError(f"report {path}: holds no figures; give what `twinspire evaluate --out` wrote")
    return figures


def _walk(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    sections = _dict(report.get("slices")) | {"judgements": report.get("judgements")}
    for place, section in sections.items():
        systems = _dict(_dict(section).get("systems"))
        for metric, estimate in _dict(next(iter(systems.values()), None)).items():
            value = estimate.get("value") if isinstance(estimate, dict) else estimate
            if _is_figure(value):
                yield metric_key("test", *([] if place == "all" else [place]), metric), float(value)


def metric_key(*parts: str) -> str:
    """MLflow refuses some characters in a metric's name, '@' among them: `recall@10` becomes `recall_at_10`."""
    text = "/".join(part.replace("@", "_at_") for part in parts)
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in text)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_figure(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
