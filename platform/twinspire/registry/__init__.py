"""The MLflow model registry: bundles in, bundles out, by name and version or alias."""

from twinspire.cache import cache_folder
from twinspire.registry.cache import fetch, last_fetched
from twinspire.registry.versions import Details, Version, list_versions, resolve, show
from twinspire.registry.writing import register

__all__ = [
    "Details",
    "Version",
    "cache_folder",
    "fetch",
    "last_fetched",
    "list_versions",
    "register",
    "resolve",
    "show",
]
