"""API keys: from a file or the environment, kept as digests, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

from twinspire.errors import ConfigError

SHORTEST = 16  # characters; `openssl rand -hex 16` gives twice as many
HASHED = "sha256:"
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


class KeyRing:
    """Names and the SHA-256 of their keys; no key itself is kept."""

    def __init__(self, digests: dict[str, bytes]) -> None:
        self._digests = list(digests.items())

    def name_of(self, key: bytes) -> str | None:
        """Whose key it is; looks at every key, the right one or not, for the same time: under a microsecond each."""
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_keys(file: str | None, variable: str) -> KeyRing | None:
    """The keys of `file`, else of the environment variable; None where neither is given.

    A line of the file, or a part of the variable between commas or line ends, is `name:key` or `name:sha256:HEX`. In
    the file, blank lines and lines that start with # are skipped.
    Errors: ConfigError, also for a file or a variable that is given and has no key: nothing is left open by mistake.
    """
    if file is not None:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: the keys cannot be read: {error}") from None
        return _parse(lines, file)
    given = os.environ.get(variable)
    return None if given is None else _parse(re.split(r"[,\n]", given), variable)


def _parse(lines: list[str], source: str) -> KeyRing:
    digests: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"{source}, key {number}" if len(lines) > 1 else source
        name, colon, key = text.partition(":")
        if not (colon and _NAME.fullmatch(name)):
            raise ConfigError(f"{where}: write name:key, the name of letters, digits, . _ and -")
        if name in digests:
            raise ConfigError(f"{where}: the name {name} is there twice")
        digests[name] = _digest(key, where)
    if not digests:
        raise ConfigError(f"{source}: there is no key in it; write name:key, one a line")
    if len(set(digests.values())) < len(digests):
        raise ConfigError(f"{source}: two names have the same key")
    return KeyRing(digests)


def _digest(key: str, where: str) -> bytes:
    if key.startswith(HASHED):
        try:
            digest = bytes.fromhex(key.removeprefix(HASHED))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise ConfigError(f"{where}: after {HASHED} come the 64 hexadecimal digits of the key's SHA-256")
        return digest
    if len(key) < SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{where}: a key is at least {SHORTEST} printable ASCII characters without spaces")
    return hashlib.sha256(key.encode()).digest()
