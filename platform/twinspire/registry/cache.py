"""From a registered version to a bundle folder on this machine, downloaded once."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from twinspire.bundle import Manifest
from twinspire.bundle.manifest import MANIFEST, sha256
from twinspire.cache import cache_folder
from twinspire.errors import BundleError, EnvironmentProblem
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry import flavour
from twinspire.registry.versions import CHECKSUM, SCHEME, Version, find

if TYPE_CHECKING:
    from mlflow import MlflowClient


def fetch(source: str | Path, *, uri: str | None = None, cache: Path | None = None) -> Path:
    """A bundle folder for `models:/NAME@ALIAS` or `models:/NAME/VERSION`; other sources come back as they are.

    `uri` is MLflow's (default: `tracking_uri()`); downloads lie in `cache` (default: `cache_folder()`), one folder for
    each content, and are verified. A registered bundle is asked for every time, so an alias that moved is followed.
    Errors: RegistryError for what is not registered, BundleError for damaged files, EnvironmentProblem where MLflow or
    the cache is not to be had.
    """
    if not str(source).startswith(SCHEME):
        return Path(source)
    client = connect(uri)
    version = find(str(source), client=client)
    folder = (cache or cache_folder()) / "bundles"
    target = folder / f"{version.name[:40]}-{version.version}-{version.tags[CHECKSUM][:16]}"
    if _is_whole(target, version):
        _remember(str(source), version, target)
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
            _put(_download(client, version, Path(scratch)), target, version)
        _remember(str(source), version, target)
    except OSError as error:
        raise EnvironmentProblem(
            f"cache {folder}: {error.strerror or error}; set TWINSPIRE_CACHE to another folder"
        ) from None
    return target


def last_fetched(source: str, *, cache: Path | None = None) -> tuple[str, Path] | None:
    """What `fetch` gave last for this source, for when MLflow is not to be had: `models:/NAME/VERSION` and its folder;
    None where nothing was fetched, or it is there no more."""
    note = _note((cache or cache_folder()) / "bundles", source)
    try:
        said = json.loads(note.read_text())
        folder = note.parent.parent / "bundles" / said["folder"]
    except (OSError, ValueError, KeyError):
        return None
    return (said["version"], folder) if (folder / MANIFEST).is_file() else None


def _remember(source: str, version: Version, target: Path) -> None:
    note = _note(target.parent, source)
    note.parent.mkdir(parents=True, exist_ok=True)
    beside = note.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps({"version": version.uri, "folder": target.name}))
    beside.replace(note)


def _note(folder: Path, source: str) -> Path:
    return folder.parent / "last" / f"{quote(source, safe='')}.json"


def _download(client: MlflowClient, version: Version, scratch: Path) -> Path:
    with clear_errors(client):
        location = client.get_logged_model(version.model_id).artifact_location
    try:
        store = get_artifact_repository(location, tracking_uri=client.tracking_uri)
        folder = Path(store.download_artifacts(flavour.FOLDER, str(scratch)))
    except (OSError, MlflowException) as error:
        reason = "; ".join(str(error).split("\n")[:2])
        raise EnvironmentProblem(f"{version.uri}: the bundle cannot be downloaded: {reason}") from None
    if not _is_whole(folder, version):
        raise BundleError(f"{version.uri}: its files at {location} are damaged; fetch another version, or fit again")
    return folder


def _put(folder: Path, target: Path, version: Version) -> None:
    """Rename into place. Where another process was first, its copy stays; a damaged one makes way."""
    if target.exists() and not _is_whole(target, version):
        target.rename(folder.with_name("damaged"))  # goes with the scratch folder
    try:
        folder.rename(target)
    except OSError:
        if not _is_whole(target, version):
            raise


def _is_whole(folder: Path, version: Version) -> bool:
    if not _same(folder, version):
        return False
    try:
        Manifest.read(folder).verify(folder)
    except BundleError:
        return False
    return True


def _same(folder: Path, version: Version) -> bool:
    return (folder / MANIFEST).is_file() and sha256(folder / MANIFEST) == version.tags[CHECKSUM]
