"""A version judged against the champion, and what was found kept in MLflow."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.bundle.manifest import MANIFEST
from twinspire.dataset.config import MAX_BAD_SHARE
from twinspire.errors import RegistryError
from twinspire.evaluation.comparison import Comparison, compare
from twinspire.evaluation.figures.comparison import comparison_page
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry.cache import fetch
from twinspire.registry.decision import Decision, keep
from twinspire.registry.gates import GateConfig
from twinspire.registry.gates import judge as gates_of
from twinspire.registry.promotion import champion_of
from twinspire.registry.versions import CHECKSUM, SCHEME, Version, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

    from twinspire.evaluation import EvaluationConfig
    from twinspire.registry.gates import Gate

REPORT, PAGE = "comparison.json", "comparison.html"
COMPARISONS = "comparisons"  # where a run keeps those that were made for nobody's promotion


def compare_versions(
    first: str,
    second: str | None,
    data: Path | str,
    *,
    config: EvaluationConfig | None = None,
    uri: str | None = None,
    cache: Path | None = None,
    quarantine: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    show_progress: bool = False,
) -> Comparison:
    """Measure two versions (`NAME@ALIAS`, `NAME/VERSION`), or one alone, on clicks later than the training of both.

    `data` is a dataset's folder. A bundle's folder may stand for a version.
    Errors: RegistryError, BundleError, DatasetError, EnvironmentProblem.
    """
    source = dataset.read(data, quarantine=quarantine, max_bad_share=max_bad_share)
    sides = [_loaded(one, uri, cache) for one in (first, second) if one is not None]
    other = sides[1] if second is not None else None
    if other is not None and other[0] == sides[0][0]:
        raise RegistryError(f"{first} and {second} are both {sides[0][0]}; give two versions, or folders of two names")
    return compare(sides[0], other, source, config=config, show_progress=show_progress)


def judge(
    name: str,
    candidate: str | int,
    data: Path | str | None = None,
    *,
    comparison: Comparison | None = None,
    gates: GateConfig | None = None,
    evaluation: EvaluationConfig | None = None,
    uri: str | None = None,
    cache: Path | None = None,
    quarantine: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    show_progress: bool = False,
) -> Decision:
    """Judge a version (its number or an alias) against the champion, on `data` or by a `comparison` made before.

    The decision is kept in MLflow, a refusal too: as tags of the version and, with the comparison, as files of its run.
    Where there is no champion only the absolute gates are asked. Promotes nothing.
    Errors: RegistryError for what is not registered, the champion itself, or a comparison of others; DatasetError where
    nothing in the data is later than the training; BundleError, EnvironmentProblem.
    """
    client = connect(uri)
    version = find(_address(name, candidate), client=client)
    champion = champion_of(name, uri=uri)
    if champion is not None and champion.version == version.version:
        raise RegistryError(f"{version.uri} is the champion already")
    if comparison is None:
        if data is None:
            raise RegistryError("nothing to judge by: give later data, or a comparison")
        second = champion.uri if champion else None
        comparison = compare_versions(
            version.uri,
            second,
            data,
            config=evaluation,
            uri=uri,
            cache=cache,
            quarantine=quarantine,
            max_bad_share=max_bad_share,
            show_progress=show_progress,
        )
    _check_sides(comparison, version, champion)
    config = gates or GateConfig()
    found = gates_of(comparison, config)
    decision = Decision(
        name=name,
        candidate=version.uri,
        champion=champion.uri if champion else None,
        passed=all(gate.passed for gate in found),
        gates=tuple(found),
        config=config,
        dataset=comparison.dataset,
        dataset_fingerprint=comparison.dataset_fingerprint,
        at=datetime.now(UTC),
        run_id=version.run_id,
    )
    _keep(client, version, decision, comparison)
    return decision


def unjudged(name: str, candidate: str | int, *, uri: str | None = None) -> Decision:
    """A decision of no gate, which refuses: to be forced, where there is nothing to judge by. Not kept before that.

    Errors: RegistryError for what is not registered.
    """
    version = find(_address(name, candidate), client=connect(uri))
    champion = champion_of(name, uri=uri)
    return Decision(
        name=name,
        candidate=version.uri,
        champion=champion.uri if champion else None,
        passed=False,
        gates=(),
        config=GateConfig(),
        dataset="",
        dataset_fingerprint="",
        at=datetime.now(UTC),
        run_id=version.run_id,
    )


def keep_comparison(comparison: Comparison, source: str, *, uri: str | None = None) -> str:
    """Keep a comparison, as data and as a page, with the run of the version `source`; gives `RUN/FOLDER`.

    Errors: RegistryError, EnvironmentProblem.
    """
    client = connect(uri)
    version = find(source, client=client)
    other = comparison.second.label if comparison.second else "nothing"
    names = "-against-".join(re.sub(r"[^\w.-]+", "-", label) for label in (comparison.first.label, other))
    folder = f"{COMPARISONS}/{names}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    with clear_errors(client), tempfile.TemporaryDirectory(prefix="twinspire-") as scratch:
        for path in _files(comparison, Path(scratch)):
            client.log_artifact(version.run_id, str(path), folder)
    return f"{version.run_id}/{folder}"


def read_comparison(path: Path) -> Comparison:
    """What `twinspire registry diff --out` wrote. Errors: RegistryError for another file."""
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RegistryError(f"report {path}: {error.strerror}") from None
    except ValidationError:
        raise RegistryError(f"report {path}: give what `twinspire registry diff --out` wrote") from None


def _address(name: str, version: str | int) -> str:
    text = str(version)
    return f"{SCHEME}{name}/{text}" if text.isascii() and text.isdigit() else f"{SCHEME}{name}@{text}"


def _loaded(source: str, uri: str | None, cache: Path | None) -> tuple[str, Bundle]:
    """Its label, `NAME/VERSION` or a folder's name, and the bundle; one that was fetched has been verified."""
    if (Path(source) / MANIFEST).is_file():
        return Path(source).absolute().name, Bundle.load(Path(source))
    version = find(source, client=connect(uri))
    return version.uri.removeprefix(SCHEME), Bundle.load(fetch(version.uri, uri=uri, cache=cache), verify=False)


def _check_sides(comparison: Comparison, version: Version, champion: Version | None) -> None:
    pairs = [("first", comparison.first, version), ("second", comparison.second, champion)]
    for place, side, wanted in pairs:
        measured, needed = side and side.checksum, wanted and wanted.tags[CHECKSUM]
        if measured != needed:
            told = f"is of {side.label} {'first' if place == 'first' else 'second'}" if side else "has no second bundle"
            asked = wanted.uri if wanted else "nothing, since there is no champion"
            raise RegistryError(f"the comparison {told}, where {asked} belongs; compare them again")


def _keep(client: MlflowClient, version: Version, decision: Decision, comparison: Comparison) -> None:
    with clear_errors(client), tempfile.TemporaryDirectory(prefix="twinspire-") as scratch:
        keep(client, version, decision, _files(comparison, Path(scratch), decision.gates))


def _files(comparison: Comparison, folder: Path, gates: Sequence[Gate] = ()) -> tuple[Path, Path]:
    data, page = folder / REPORT, folder / PAGE
    data.write_text(comparison.model_dump_json(indent=1), encoding="utf-8")
    page.write_text(comparison_page(comparison, gates), encoding="utf-8")
    return data, page
