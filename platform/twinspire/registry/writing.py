"""Register a bundle: one MLflow model version, with its files, tags and metrics, beside the run that trained it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from twinspire.bundle import Manifest
from twinspire.bundle.manifest import MANIFEST, sha256
from twinspire.errors import RegistryError
from twinspire.mlflow_client import NOT_THERE, THERE_ALREADY, artifact_root, clear_errors, connect
from twinspire.registry import flavour
from twinspire.registry.claims import CHAMPION, PREVIOUS, aliases, claim
from twinspire.registry.figures import bundle_figures, metric_key, report_figures
from twinspire.registry.versions import CHECKSUM, Version, check_alias, check_name, search, to_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

EXPERIMENT = "twinspire"  # of bundles whose training run this MLflow does not have


def register(
    bundle: Path | str,
    name: str,
    *,
    uri: str | None = None,
    alias: str | None = None,
    metrics: Mapping[str, float] | None = None,
    report: Path | str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Version:
    """Register a bundle folder as a version of `name`, verified first, and point `alias` at it.

    `uri` is MLflow's (default: `tracking_uri()`). `metrics` are logged with the version, and so are the figures of
    `report`, a file that `twinspire evaluate` wrote; `tags` are kept beside those of every bundle. A bundle that `name`
    already has keeps its version. The alias `champion` is for a model's first one: later ones are judged and promoted.
    Errors: BundleError, RegistryError, EnvironmentProblem; then no version is made.
    """
    folder = Path(bundle)
    check_name(name)
    if alias is not None:
        check_alias(alias)
        if alias == PREVIOUS:
            raise RegistryError(f"alias {PREVIOUS} is set by promotions and rollbacks alone; register without it")
    manifest = Manifest.read(folder)
    manifest.verify(folder)
    figures = report_figures(Path(report)) if report is not None else {}
    checksum = sha256(folder / MANIFEST)
    client = connect(uri, create=True)
    with clear_errors(client):
        version = next(search(client, f"name = '{name}' AND tags.{CHECKSUM} = '{checksum}'"), None)
        if alias == CHAMPION:
            _refuse_second(client, name, version)
        if version is None:
            version = _upload(client, folder, manifest, name, checksum, tags or {})
            figures = bundle_figures(manifest) | figures
        _log(client, version, figures | {metric_key(key): value for key, value in (metrics or {}).items()}, report)
        for key, value in (tags or {}).items():
            client.set_model_version_tag(name, str(version.version), key, value)
        if alias == CHAMPION:
            _crown(client, version)
        elif alias is not None:
            client.set_registered_model_alias(name, alias, str(version.version))
        return to_version(client.get_model_version(name, str(version.version)))


def _refuse_second(client: MlflowClient, name: str, version: Version | None) -> None:
    """Errors: RegistryError where the model has another champion, which gates and `previous` would not hear of."""
    try:
        champion = aliases(client, name).get(CHAMPION)
    except MlflowException as error:
        if error.error_code != NOT_THERE:
            raise
        return
    if champion is not None and (version is None or champion != version.version):
        raise RegistryError(
            f"model {name!r} has a champion, version {champion}; register without the alias {CHAMPION}, and then "
            f"`twinspire registry promote {name} VERSION --data DIR`"
        )


def _crown(client: MlflowClient, version: Version) -> None:
    """Make the version the first champion: a change that the history has, one at a time with the others."""
    if aliases(client, version.name).get(CHAMPION) == version.version:
        return
    with claim(client, version.name, "registration", version.version, "the first champion") as held:
        _refuse_second(client, version.name, version)
        held.set_alias(CHAMPION, version.version)


def _upload(
    client: MlflowClient, folder: Path, manifest: Manifest, name: str, checksum: str, own: Mapping[str, str]
) -> Version:
    """Files first, then the name: a version that can be found is whole."""
    experiment, run_id = _run(client, manifest, name)
    tags = {**_tags(manifest, checksum), **own}
    logged = client.create_logged_model(experiment, name.replace(".", "_"), run_id, tags=tags, model_type="retrieval")
    try:
        with tempfile.TemporaryDirectory(prefix="twinspire-") as scratch:
            model = Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                run_id=run_id,
                model_id=logged.model_id,
            )
            size = sum((folder / file).stat().st_size for file in manifest.files)
            flavour.describe(Path(scratch) / "model", model, size)
            client.log_model_artifacts(logged.model_id, str(Path(scratch) / "model"))
        client.log_model_artifacts(logged.model_id, str(folder), flavour.FOLDER)
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, models=[LoggedModelOutput(logged.model_id, step=0)])
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != THERE_ALREADY:
            raise
    source = f"models:/{logged.model_id}"
    return to_version(client.create_model_version(name, source, run_id, tags=tags, model_id=logged.model_id))


def _run(client: MlflowClient, manifest: Manifest, name: str) -> tuple[str, str]:
    """Experiment and id of the run that trained the bundle; of a new one where this MLflow does not have it."""
    if manifest.mlflow_run_id is not None:
        try:
            info = client.get_run(manifest.mlflow_run_id).info
        except MlflowException as error:
            if error.error_code != NOT_THERE:
                raise
        else:
            return info.experiment_id, info.run_id
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = (
        found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_root(client.tracking_uri))
    )
    run_id = client.create_run(experiment, run_name=f"register {name}").info.run_id
    client.set_terminated(run_id)
    return experiment, run_id


def _tags(manifest: Manifest, checksum: str) -> dict[str, str]:
    return {
        CHECKSUM: checksum,
        "bundle_name": manifest.name,
        "bundle_version": manifest.version,
        "dataset_fingerprint": manifest.dataset_fingerprint,
        "items": str(manifest.items),
        "dimensions": str(manifest.dimensions),
        "trained_until": manifest.trained_until or "",
        "tokeniser_fingerprint": manifest.tokeniser_fingerprint,
        "index": manifest.index.factory,
        "twinspire": manifest.twinspire,
    }


def _log(client: MlflowClient, version: Version, figures: Mapping[str, float], report: Path | str | None) -> None:
    now = int(time.time() * 1000)
    metrics = [
        Metric(key, float(value), now, 0, model_id=version.model_id, run_id=version.run_id)
        for key, value in figures.items()
    ]
    if metrics:
        client.log_batch(version.run_id, metrics)
    if report is not None:
        client.log_artifact(version.run_id, str(report))
