"""From a judged version to the champion; and back in a second. Imports no model: a rollback is in a hurry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twinspire.errors import RegistryError
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry.claims import CHAMPION, LEASE_S, PREVIOUS, Busy, Overtaken, claim
from twinspire.registry.versions import SCHEME, Version, find, model_named

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from twinspire.registry.decision import Decision

_BETWEEN_TRIES_S = 0.2


def promote(decision: Decision, *, force: str | None = None, uri: str | None = None) -> Version:
    """Make a judged version the champion, and the champion `previous`; gives the new champion.

    Does nothing where it is the champion already, so that it can be said twice. `force` is a reason, kept in MLflow, to
    promote in spite of the gates.
    Errors: RegistryError for a decision that refuses; Busy where another promotion is under way; Overtaken where the
    champion is another one than the decision was made against; EnvironmentProblem.
    """
    from twinspire.registry.decision import keep

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
        if CHAMPION not in _aliases(client, name):
            return None
    return find(f"{SCHEME}{name}@{CHAMPION}", client=client)


def _roll_back(client: MlflowClient, name: str, reason: str) -> Version:
    with clear_errors(client):
        there = _aliases(client, name)
        before = there.get(PREVIOUS)
        if before is None or before != there.get(CHAMPION):
            before = _both(name, there)[1]
        # else a promotion is half made, or was: the claim waits for it, or puts back what a dead one has left
        with claim(client, name, "rollback", before, reason) as held:
            champion, previous = _both(name, held.aliases())
            if previous != before:  # meanwhile another change was made, or put back
                held.note(version=str(previous))
            held.set_alias(PREVIOUS, champion)
            held.set_alias(CHAMPION, previous)
    return find(f"{SCHEME}{name}/{previous}", client=client)


def _both(name: str, there: dict[str, int]) -> tuple[int, int]:
    """Versions of `champion` and `previous`, which are two."""
    champion, previous = there.get(CHAMPION), there.get(PREVIOUS)
    if champion is None or previous is None or champion == previous:
        told = f"champion is {f'version {champion}' if champion else 'none'}, previous " + (
            f"version {previous}" if previous else "none"
        )
        raise RegistryError(f"model {name!r} has nothing to go back to: {told}; promote a version instead")
    return champion, previous


def _aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Aliases of a model: name to version. Errors: RegistryError that says which names there are."""
    return {alias: int(version) for alias, version in model_named(client, name).aliases.items()}
