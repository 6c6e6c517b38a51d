"""Who may do what: keys for searches, other keys for administration, a rate for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from serving.keys import read_keys
from serving.limits import RateLimiter, too_many
from serving.problems import Refusal

if TYPE_CHECKING:
    from serving.keys import KeyRing
    from serving.request import Request

Access = Literal["open", "search", "admin"]

ADMIN = "/v1/admin/"  # every path that starts so needs an admin key, whether there is anything or not
KEYS_VARIABLE = "TWINSPIRE_API_KEYS"
ADMIN_KEYS_VARIABLE = "TWINSPIRE_ADMIN_KEYS"
_CHALLENGE = (b"www-authenticate", b'Bearer realm="twinspire"')


@dataclass(frozen=True, slots=True)
class Gate:
    """Without `keys`, everyone may search; without `admin_keys`, nobody may administer. Admin keys may search too."""

    keys: KeyRing | None = None
    admin_keys: KeyRing | None = None
    limiter: RateLimiter | None = None

    def admit(self, access: Access, request: Request) -> str:
        """The name of the caller's key, empty where none is needed; refuses with 401, 403 or 429."""
        name = ""
        if access == "admin":
            name = self._admin(request)
        elif access == "search" and self.keys is not None:
            name = self._searcher(request, self.keys)
        if self.limiter is not None and access != "open" and (wait := self.limiter.take(name)):
            raise too_many(wait)
        return name

    def charge(self, request: Request, requests: int) -> None:
        """Count an admitted request as `requests` more."""
        if self.limiter is not None:
            self.limiter.charge(request.caller, requests)

    def _searcher(self, request: Request, keys: KeyRing) -> str:
        key = _key(request)
        name = keys.name_of(key)
        if name is None and self.admin_keys is not None:
            name = self.admin_keys.name_of(key)
        if name is None:
            raise Refusal(401, "this key is not known here", "authorization", headers=[_CHALLENGE])
        return name

    def _admin(self, request: Request) -> str:
        if self.admin_keys is None:
            told = f"nobody may administer this server; start it with --admin-keys FILE or {ADMIN_KEYS_VARIABLE}"
            raise Refusal(403, told, "path")
        key = _key(request)
        name = self.admin_keys.name_of(key)
        if name is None:
            if self.keys is not None and self.keys.name_of(key) is not None:
                raise Refusal(403, "this key is for searches only", "authorization")
            raise Refusal(401, "this key is not known here", "authorization", headers=[_CHALLENGE])
        return name


def open_gate(keys_file: str | None, admin_keys_file: str | None, rate: float | None) -> Gate:
    """The gate for files of keys, or the environment's keys, and a rate in requests a second.

    Errors: ConfigError.
    """
    return Gate(
        read_keys(keys_file, KEYS_VARIABLE),
        read_keys(admin_keys_file, ADMIN_KEYS_VARIABLE),
        None if rate is None else RateLimiter(rate),
    )


def _key(request: Request) -> bytes:
    given = request.header(b"authorization")
    if given is not None:
        scheme, _, key = given.partition(b" ")
        if scheme.lower() == b"bearer":
            return key.strip()
    plain = request.header(b"x-api-key")
    if plain is None:
        told = "send a key: `authorization: Bearer KEY` or `x-api-key: KEY`"
        raise Refusal(401, told, "authorization", headers=[_CHALLENGE])
    return plain.strip()
