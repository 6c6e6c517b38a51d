"""One change of a model's aliases at a time, with what MLflow's registry has: no lock, no conditional write.

A claim is a version of the model NAME.promotions. The store numbers versions one after another and gives number n only
when all lower ones can be seen (its primary key, with SQLite as with PostgreSQL), so of the claims that are open the
lowest holds. A claim that is older than LEASE_S by the store's own clock is that of a dead process: what it had begun
is put back, and it blocks no more. The closed claims stay, as the history of the aliases.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from twinspire.errors import RegistryError
from twinspire.mlflow_client import NOT_THERE, THERE_ALREADY, clear_errors, connect
from twinspire.registry.versions import CLAIMS, model_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient

LEASE_S = 10.0  # moving two aliases takes well below a second
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
OPEN, DONE, GIVEN_UP, ABANDONED = "open", "done", "given up", "abandoned"
_LOOKED_AT = 200
_TRIES, _BETWEEN_TRIES_S = 5, 0.2


class Busy(RegistryError):
    """Another change of the same model's aliases is under way; says whose."""


class Overtaken(RegistryError):
    """The champion is no longer the one that a decision was made against; says which it is now."""


@dataclass(frozen=True)
class Claim:
    """The right to change aliases of `name`, until `until` (monotonic seconds)."""

    name: str
    number: int
    until: float
    client: MlflowClient

    def aliases(self) -> dict[str, int]:
        """The model's aliases now: name to version."""
        return aliases(self.client, self.name)

    def set_alias(self, alias: str, version: int) -> None:
        """Errors: Busy where the claim may be over, after a pause of this process; nothing is written then."""
        if time.monotonic() > self.until:
            raise Busy(
                f"model {self.name!r}: MLflow took longer than {LEASE_S:.0f} s; nothing more is changed, try again"
            )
        self.client.set_registered_model_alias(self.name, alias, str(version))

    def note(self, **tags: str) -> None:
        """Write down with the claim what it is about to do."""
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name + CLAIMS, str(self.number), key, value)


@contextmanager
def claim(client: MlflowClient, name: str, action: str, version: int, reason: str = "") -> Iterator[Claim]:
    """Hold the claim on a model's aliases, to set `champion` to `version`.

    Errors: Busy where another process holds it.
    """
    started = time.monotonic()
    ticket = _open(client, name, action, version, reason)
    number, state = int(ticket.version), GIVEN_UP
    try:
        for other in _others(client, name):
            if int(other.version) < number:
                _pass(client, name, other, ticket)
        held = Claim(name, number, started + LEASE_S / 2, client)
        now = held.aliases()
        held.note(before_champion=str(now.get(CHAMPION, "")), before_previous=str(now.get(PREVIOUS, "")))
        yield held
        state = DONE
    finally:
        with suppress(MlflowException, OSError):  # else it is over with its lease
            client.set_model_version_tag(name + CLAIMS, str(number), "state", state)


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """A model's aliases: name to version."""
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


@dataclass(frozen=True)
class Change:
    """A change of a model's champion that was made: `version` took the place of `before` (empty: of none)."""

    action: str
    version: int
    before: str
    by: str
    at: datetime
    reason: str


def history(name: str, *, uri: str | None = None) -> list[Change]:
    """The changes of a model's champion, newest first, at most 200.

    Errors: RegistryError for a name that is not registered; EnvironmentProblem.
    """
    client = connect(uri)
    with clear_errors(client):
        model_named(client, name)
        found = _claims(client, f"name = '{name}{CLAIMS}'")
    return [_change(one) for one in found if one.tags.get("state") == DONE]


def _change(one: Any) -> Change:
    tags = one.tags
    return Change(
        action=tags["action"],
        version=int(tags["version"]),
        before=tags.get("before_champion", ""),
        by=tags["by"],
        at=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
        reason=tags["reason"],
    )


def _open(client: MlflowClient, name: str, action: str, version: int, reason: str) -> Any:
    model = name + CLAIMS
    tags = {"state": OPEN, "action": action, "version": str(version), "by": _who(), "reason": reason}
    try:
        client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != NOT_THERE:
            raise
        try:
            told = f"Who changed the aliases of {name}, when and why: a version for each change, in its tags."
            client.create_registered_model(model, description=told)
        except MlflowException as error:
            if error.error_code != THERE_ALREADY:
                raise
    for left in range(_TRIES, 0, -1):
        try:
            return client.create_model_version(model, f"models:/{name}/{version}", tags=tags)
        except MlflowException:  # many at once: the store gave up counting
            if left == 1:
                raise
            time.sleep(_BETWEEN_TRIES_S)
    raise AssertionError


def _others(client: MlflowClient, name: str) -> list[Any]:
    where = f"name = '{name}{CLAIMS}' AND tags.state = '{OPEN}'"
    return _claims(client, where)


def _claims(client: MlflowClient, where: str) -> list[Any]:
    return list(client.search_model_versions(where, order_by=["version_number DESC"], max_results=_LOOKED_AT))


def _pass(client: MlflowClient, name: str, other: Any, ticket: Any) -> None:
    """Go past an open claim before ours, where its process is dead."""
    tags: Mapping[str, str] = other.tags
    age = (ticket.creation_timestamp - other.creation_timestamp) / 1000
    if age < LEASE_S:
        raise Busy(
            f"model {name!r}: another {tags['action']}, of version {tags['version']} by {tags['by']}, is under way; "
            "look what becomes of it, and try again"
        )
    _put_back(client, name, tags)
    client.set_model_version_tag(name + CLAIMS, str(other.version), "state", ABANDONED)


def _put_back(client: MlflowClient, name: str, tags: Mapping[str, str]) -> None:
    """`previous` is moved first: where `champion` was not, the change was not made, and `previous` is as it was."""
    before, now = tags.get("before_champion"), aliases(client, name)
    if not before or now.get(CHAMPION) != int(before):
        return
    previous = tags.get("before_previous")
    if previous and now.get(PREVIOUS) != int(previous):
        client.set_registered_model_alias(name, PREVIOUS, previous)
    elif not previous and PREVIOUS in now:
        client.delete_registered_model_alias(name, PREVIOUS)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()}, process {os.getpid()}"
