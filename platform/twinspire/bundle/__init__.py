"""The one servable: save, verify, load, search, score."""

from twinspire.bundle.bundle import Bundle, Results, frequent_queries, read_items
from twinspire.bundle.canaries import check_canaries
from twinspire.bundle.manifest import Manifest
from twinspire.bundle.tidy import tidy
from twinspire.bundle.write import Parts, check_target, write_bundle

__all__ = [
    "Bundle",
    "Manifest",
    "Parts",
    "Results",
    "check_canaries",
    "check_target",
    "frequent_queries",
    "read_items",
    "tidy",
    "write_bundle",
]
