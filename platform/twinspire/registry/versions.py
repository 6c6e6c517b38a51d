"""Registered versions: how they are named, found and listed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from twinspire.errors import RegistryError
from twinspire.mlflow_client import NOT_THERE, clear_errors, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow import MlflowClient

SCHEME = "models:/"
# A tag of each version; says that it holds a bundle, and which: the sha256 of its manifest, which holds all others.
CHECKSUM = "bundle_checksum"
CLAIMS = ".promotions"  # of the model that holds the history of another one's aliases
_NAME = re.compile(r"[\w.-]([\w .-]{0,98}[\w.-])?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,100}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_MOST_NAMED = 8
_PAGE = 1000  # the most that MLflow gives at once


@dataclass(frozen=True)
class Version:
    """One registered bundle. `tags` say what it is: dataset_fingerprint, items, trained_until, bundle_version, ..."""

    name: str
    version: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    model_id: str
    tags: Mapping[str, str] = field(repr=False)

    @property
    def uri(self) -> str:
        """`models:/NAME/VERSION`, which always means this bundle."""
        return f"{SCHEME}{self.name}/{self.version}"


@dataclass(frozen=True)
class Details:
    """A version with the latest value of each of its metrics."""

    version: Version
    metrics: dict[str, float]


def list_versions(name: str | None = None, *, uri: str | None = None) -> list[Version]:
    """Versions of one registered model, or of all, by name and newest first; those that are no bundles are left out.

    Errors: RegistryError for an unknown name; EnvironmentProblem where MLflow is not to be had.
    """
    client = connect(uri)
    with clear_errors(client):
        if name is not None:
            model_named(client, name)
        where = f"name = '{name}'" if name is not None else None
        aliases = _aliases(client, where)
        found = [replace(one, aliases=aliases.get((one.name, one.version), ())) for one in search(client, where)]
    return sorted(found, key=lambda version: (version.name, -version.version))


def find(uri: str, *, client: MlflowClient) -> Version:
    """The version that `NAME@ALIAS` or `NAME/VERSION` names, with `models:/` before it or not.

    Errors: RegistryError that says which names, aliases or versions there are.
    """
    name, alias, number = parse(uri)
    with clear_errors(client):
        model = model_named(client, name)
        if alias is not None:
            if alias not in model.aliases:
                there = ", ".join(f"{key} (version {value})" for key, value in sorted(model.aliases.items()))
                raise RegistryError(f"model {name!r} has no alias {alias!r}; it has {there or 'none'}")
            number = int(model.aliases[alias])
        found = _version(client, name, number)
    if CHECKSUM not in found.tags:
        raise RegistryError(
            f"{found.uri} holds no bundle of Twinspire; register one with `twinspire registry register`"
        )
    return found


def resolve(source: str, *, uri: str | None = None) -> str:
    """`models:/NAME/VERSION` of what `NAME@ALIAS` names now; cheap to ask. Errors: as for `find`."""
    return find(source, client=connect(uri)).uri


def show(source: str, *, uri: str | None = None) -> Details:
    """A version and its figures; `source` as for `find`. Errors: as for `find`."""
    client = connect(uri)
    version = find(source, client=client)
    with clear_errors(client):
        logged = client.get_logged_model(version.model_id).metrics or []
    latest = {metric.key: metric.value for metric in sorted(logged, key=lambda metric: (metric.timestamp, metric.step))}
    return Details(version, dict(sorted(latest.items())))


def parse(uri: str) -> tuple[str, str | None, int]:
    """Name, alias (None where a version is named) and version (0 where an alias is). Errors: RegistryError."""
    rest = uri.removeprefix(SCHEME)
    name, at, alias = rest.partition("@")
    if at and _NAME.fullmatch(name) and alias:
        return name, alias, 0
    name, _, number = rest.rpartition("/")
    if _NAME.fullmatch(name) and number.isascii() and number.isdigit() and len(number) < 10:
        return name, None, int(number)
    raise RegistryError(f"{uri!r} names no registered bundle; write NAME@ALIAS or NAME/VERSION, such as shop@champion")


def check_name(name: str) -> None:
    """Errors: RegistryError for a name that a URI or a search cannot hold."""
    if not _NAME.fullmatch(name):
        raise RegistryError(f"{name!r} cannot name a model; use letters, digits, '_', '.', '-', at most 100")


def check_alias(alias: str) -> None:
    """Errors: RegistryError for an alias that MLflow refuses."""
    if not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        raise RegistryError(
            f"{alias!r} cannot be an alias; use letters, digits, '_', '-', but not latest or a version such as v1"
        )


def search(client: MlflowClient, where: str | None) -> Iterator[Version]:
    """All bundles that match MLflow's filter, without their aliases."""
    return (to_version(entity) for entity in _pages(client.search_model_versions, where) if CHECKSUM in entity.tags)


def _aliases(client: MlflowClient, where: str | None) -> dict[tuple[str, int], tuple[str, ...]]:
    """Aliases of each version; a search for versions leaves them out."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for model in _pages(client.search_registered_models, where):
        for alias, version in sorted(model.aliases.items()):
            key = (model.name, int(version))
            found[key] = (*found.get(key, ()), alias)
    return found


def _pages(ask: Callable[..., Any], where: str | None) -> Iterator[Any]:
    token = None
    while True:
        page = ask(where, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def to_version(entity: Any) -> Version:
    """From MLflow's model version."""
    return Version(
        name=entity.name,
        version=int(entity.version),
        aliases=tuple(sorted(entity.aliases)),
        created=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        run_id=entity.run_id,
        model_id=entity.source.removeprefix(SCHEME),  # the store leaves entity.model_id empty
        tags=dict(entity.tags),
    )


def model_named(client: MlflowClient, name: str) -> Any:
    """MLflow's registered model. Errors: RegistryError that says which there are."""
    check_name(name)
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != NOT_THERE:
            raise
    there = [model.name for model in client.search_registered_models() if not model.name.endswith(CLAIMS)]
    raise RegistryError(f"no model {name!r} in MLflow at {client.tracking_uri}; it has {_some(there)}")


def _version(client: MlflowClient, name: str, number: int) -> Version:
    try:
        return to_version(client.get_model_version(name, str(number)))
    except MlflowException as error:
        if error.error_code != NOT_THERE:
            raise
    numbers = sorted((version.version for version in search(client, f"name = '{name}'")), reverse=True)
    raise RegistryError(f"model {name!r} has no version {number}; it has {_some(numbers)}")


def _some(there: list[Any]) -> str:
    shown = ", ".join(str(one) for one in there[:_MOST_NAMED])
    return (shown or "none") + (", ..." if len(there) > _MOST_NAMED else "")
