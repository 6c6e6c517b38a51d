"""From a registered version to the champion, through the gates; and back in a second."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.bundle.manifest import MANIFEST
from twinspire.errors import RegistryError
from twinspire.evaluation.comparison import Comparison, compare
from twinspire.evaluation.gates import GateConfig
from twinspire.evaluation.gates import judge as gates_of
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry.cache import fetch
from twinspire.registry.claims import CHAMPION, LEASE_S, PREVIOUS, Busy, Overtaken, claim
from twinspire.registry.decision import Decision, keep
from twinspire.registry.versions import CHECKSUM, SCHEME, Version, find, model_named

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from twinspire.evaluation import EvaluationConfig

REPORT = "comparison.json"
_BETWEEN_TRIES_S = 0.2


def compare_versions(
    first: str,
    second: str | None,
    data: Path | str,
    *,
    config: EvaluationConfig | None = None,
    uri: str | None = None,
    cache: Path | None = None,
    quarantine: Path | None = None,
    show_progress: bool = False,
) -> Comparison:
    """Measure two versions (`NAME@ALIAS`, `NAME/VERSION`), or one alone, on clicks later than the training of both.

    `data` is a dataset's folder. A bundle's folder may stand for a version.
    Errors: RegistryError, BundleError, DatasetError, EnvironmentProblem.
    """
    source = dataset.read(data, quarantine=quarantine)
    sides = [_loaded(one, uri, cache) for one in (first, second) if one is not None]
    other = sides[1] if second is not None else None
    if other is not None and other[0] == sides[0][0]:
        raise RegistryError(f"{first} and {second} are the same version, {sides[0][0]}; give two")
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


def promote(decision: Decision, *, force: str | None = None, uri: str | None = None) -> Version:
    """Make a judged version the champion, and the champion `previous`; gives the new champion.

    Does nothing where it is the champion already, so that it can be said twice. `force` is a reason, kept in MLflow, to
    promote in spite of the gates.
    Errors: RegistryError for a decision that refuses; Busy where another promotion is under way; Overtaken where the
    champion is another one than the decision was made against; EnvironmentProblem.
    """
    client = connect(uri)
    version = find(decision.candidate, client=client)
    if not decision.passed and force is None:
        raise RegistryError(f"{decision.candidate} is refused: {'; '.join(decision.refusals)}")
    if not decision.passed:
        decision = decision.model_copy(update={"forced": force})
        with clear_errors(client):
            keep(client, version, decision)
    reason = decision.line() + (f"; because {force}" if decision.forced else "")
    with clear_errors(client), claim(client, decision.name, "promotion", version.version, reason) as held:
        now = held.aliases().get(CHAMPION)
        if now == version.version:
            return find(decision.candidate, client=client)
        if now != decision.champion_version:
            raise Overtaken(
                f"{decision.candidate} was judged against {decision.champion or 'no champion'}, but the champion is "
                f"{f'version {now}' if now else 'none'} now; judge it again"
            )
        if now is not None:
            held.set_alias(PREVIOUS, now)
        held.set_alias(CHAMPION, version.version)
    return find(decision.candidate, client=client)


def rollback(name: str, *, reason: str = "", uri: str | None = None) -> Version:
    """Let `champion` and `previous` change places; gives the new champion. Twice is as if never.

    Waits for a promotion that is under way, for at most LEASE_S seconds.
    Errors: RegistryError where there is nothing to go back to; Busy; EnvironmentProblem.
    """
    client = connect(uri)
    until = time.monotonic() + LEASE_S + 2
    while True:
        try:
            return _roll_back(client, name, reason)
        except Busy:
            if time.monotonic() > until:
                raise
            time.sleep(_BETWEEN_TRIES_S)


def champion_of(name: str, *, uri: str | None = None) -> Version | None:
    """The champion, or None where there is none. Errors: RegistryError for a name that is not registered."""
    client = connect(uri)
    with clear_errors(client):
        if CHAMPION not in named_aliases(client, name):
            return None
    return find(f"{SCHEME}{name}@{CHAMPION}", client=client)


def _roll_back(client: MlflowClient, name: str, reason: str) -> Version:
    with clear_errors(client):
        before = _previous(client, name)
        with claim(client, name, "rollback", before, reason) as held:
            now = held.aliases()
            if now.get(PREVIOUS) != before:  # the promotion before us was put back, or made
                before = _previous(client, name)
                held.note(version=str(before))
            held.set_alias(PREVIOUS, now[CHAMPION])
            held.set_alias(CHAMPION, before)
    return find(f"{SCHEME}{name}/{before}", client=client)


def _previous(client: MlflowClient, name: str) -> int:
    there = named_aliases(client, name)
    champion, previous = there.get(CHAMPION), there.get(PREVIOUS)
    if champion is None or previous is None or champion == previous:
        told = f"champion is {f'version {champion}' if champion else 'none'}, previous " + (
            f"version {previous}" if previous else "none"
        )
        raise RegistryError(f"model {name!r} has nothing to go back to: {told}; promote a version instead")
    return previous


def named_aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Aliases of a model: name to version. Errors: RegistryError that says which names there are."""
    return {alias: int(version) for alias, version in model_named(client, name).aliases.items()}


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
        path = Path(scratch) / REPORT
        path.write_text(comparison.model_dump_json(indent=1), encoding="utf-8")
        keep(client, version, decision, (path,))
