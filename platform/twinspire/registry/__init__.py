"""The MLflow model registry: bundles in, bundles out, by name and version or alias; gates, promotion, rollback.

What a name needs is imported when it is first asked for: a rollback does not wait for PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinspire.cache import cache_folder
    from twinspire.registry.cache import fetch, last_fetched
    from twinspire.registry.claims import CHALLENGER, CHAMPION, PREVIOUS, Busy, Change, Overtaken, history
    from twinspire.registry.decision import Decision
    from twinspire.registry.gates import Gate, GateConfig
    from twinspire.registry.judging import compare_versions, judge, keep_comparison, read_comparison, unjudged
    from twinspire.registry.promotion import champion_of, promote, rollback
    from twinspire.registry.versions import Details, Version, list_versions, resolve, show
    from twinspire.registry.writing import register

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Busy",
    "Change",
    "Decision",
    "Details",
    "Gate",
    "GateConfig",
    "Overtaken",
    "Version",
    "cache_folder",
    "champion_of",
    "compare_versions",
    "fetch",
    "history",
    "judge",
    "keep_comparison",
    "last_fetched",
    "list_versions",
    "promote",
    "read_comparison",
    "register",
    "resolve",
    "rollback",
    "show",
    "unjudged",
]

_ROOMS = {
    "twinspire.cache": ("cache_folder",),
    "twinspire.registry.gates": ("Gate", "GateConfig"),
    "twinspire.registry.cache": ("fetch", "last_fetched"),
    "twinspire.registry.claims": ("CHALLENGER", "CHAMPION", "PREVIOUS", "Busy", "Change", "Overtaken", "history"),
    "twinspire.registry.decision": ("Decision",),
    "twinspire.registry.judging": ("compare_versions", "judge", "keep_comparison", "read_comparison", "unjudged"),
    "twinspire.registry.promotion": ("champion_of", "promote", "rollback"),
    "twinspire.registry.versions": ("Details", "Version", "list_versions", "resolve", "show"),
    "twinspire.registry.writing": ("register",),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOM[name]), name)
