"""The manifest: what a bundle is, and the checksum of every file in it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinspire.errors import BundleError
from twinspire.index.build import IndexSpec
from twinspire.index.filters import Kind
from twinspire.index.hybrid import Fusion
from twinspire.model import Architecture

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 6
# 2 has vectors alone; up to 3 there are no filters, and the index holds the raw vectors too; up to 4 the words'
# postings are not in the order of clicks; up to 5 the index has the same settings for 1,000 results as for 100.
READABLE = (2, 3, 4, 5, 6)
MANIFEST = "manifest.json"
REQUIRED = ("features.json", "model.safetensors", "index.faiss", "item_vectors.npy", "users.parquet")
ITEMS, ITEMS_BEFORE_4 = "items.arrow", "items.parquet"
LEXICAL, MEMORY, TREND, FILTERS, IDS = "lexical", "memory.parquet", "trend.npy", "filters", "ids"
READERS = 4  # files whose checksums are taken side by side
_CHUNK = 1 << 22


class Manifest(BaseModel):
    """Contents of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    name: str
    version: str
    created: str = Field(description="ISO 8601, UTC")
    twinspire: str = Field(description="version of the package that wrote it")
    architecture: Architecture
    config: dict[str, Any] = Field(description="the whole config of the fit, resolved")
    tokeniser_version: str
    tokeniser_fingerprint: str
    dataset_fingerprint: str
    items: int
    positives: int
    trained_until: str | None
    index: IndexSpec
    fusion: Fusion = Fusion()
    filters: dict[str, Kind] = Field(default_factory=dict, description="columns to filter by, and what they hold")
    training: dict[str, Any]
    mlflow_run_id: str | None = None
    files: dict[str, str] = Field(description="file to sha256")

    @property
    def dimensions(self) -> int:
        """Embedding dimension D."""
        return self.architecture.config.dim

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check a bundle's manifest.

        Errors: BundleError where there is none, or it is not one that this version reads.
        """
        path = folder / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise BundleError(f"{folder}: no readable {MANIFEST}; give a folder that `twinspire fit` wrote") from None
        try:
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"]) or "it"
            raise BundleError(f"{path}: {key}: {problem['msg']}; was it written by another version?") from None
        if manifest.schema_version not in READABLE:
            raise BundleError(
                f"{path}: schema version {manifest.schema_version}, this Twinspire reads {SCHEMA_VERSION}; fit again"
            )
        return manifest

    def verify(self, folder: Path) -> None:
        """Compare every file with its checksum.

        Errors: BundleError that names the first missing or changed file.
        """
        for name in (*REQUIRED, ITEMS_BEFORE_4 if ITEMS_BEFORE_4 in self.files else ITEMS):
            if name not in self.files:
                raise BundleError(f"{folder}: {MANIFEST} has no checksum of {name}; fit again")
        for name in self.files:
            if not (folder / name).is_file():
                raise BundleError(f"{folder}: {name} is missing; copy the whole folder again")
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(lambda name: sha256(folder / name), self.files))
        for (name, expected), digest in zip(self.files.items(), found, strict=True):
            if digest != expected:
                raise BundleError(
                    f"{folder}: {name} does not have the checksum of the manifest; copy the bundle again or fit again"
                )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Digest of every file of a folder but the manifest, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
