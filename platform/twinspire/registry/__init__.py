"""The MLflow model registry: bundles in, bundles out, by name and version or alias; gates, promotion, rollback."""

from twinspire.cache import cache_folder
from twinspire.evaluation.gates import Gate, GateConfig
from twinspire.registry.cache import fetch, last_fetched
from twinspire.registry.claims import CHALLENGER, CHAMPION, PREVIOUS, Busy, Overtaken
from twinspire.registry.decision import Decision
from twinspire.registry.promotion import champion_of, compare_versions, judge, promote, rollback
from twinspire.registry.versions import Details, Version, list_versions, resolve, show
from twinspire.registry.writing import register

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Busy",
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
    "judge",
    "last_fetched",
    "list_versions",
    "promote",
    "register",
    "resolve",
    "rollback",
    "show",
]
