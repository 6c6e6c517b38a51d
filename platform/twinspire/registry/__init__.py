"""The MLflow model registry: bundles in, bundles out, by name and version or alias."""

from twinspire.registry.cache import cache_folder, fetch
from twinspire.registry.versions import Details, Version, list_versions, show
from twinspire.registry.writing import register

__all__ = ["Details", "Version", "cache_folder", "fetch", "list_versions", "register", "show"]
