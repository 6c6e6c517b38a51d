"""Bundles whose manifest says something else."""

import json
from pathlib import Path

from twinspire.bundle.manifest import MANIFEST


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change these entries of the manifest of a bundle, which must be a copy."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
