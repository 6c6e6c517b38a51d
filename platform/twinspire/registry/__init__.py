"""The MLflow model registry: bundles in, bundles out, by name and version or alias."""

from twinspire.cache import cache_folder
from twinspire.registry.cache import fetch
from twinspire.registry.versions import Details, Version, list_versions, show
from twinspire.registry.writing import register

__all__ = ["Details", "Version", "cache_folder", "fetch", "list_versions", "register", "show"]
