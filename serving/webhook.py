"""MLflow's webhooks: a signed notice that an alias has moved, so that replicas look at once and not at their next turn.

MLflow signs as Standard Webhooks do, with headers of its own: `x-mlflow-signature` is `v1,` and the base64 of the
HMAC-SHA256, keyed with the webhook's secret, of delivery id, timestamp (seconds) and body, joined by dots. A notice
makes replicas ask the registry and does nothing else, so one that is sent again costs no more than a look.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from serving.problems import Refusal
from twinspire.errors import ConfigError

if TYPE_CHECKING:
    from serving.request import Request

PATH = "/v1/webhooks/mlflow"  # not under /v1/admin/: MLflow can send no key
SECRET_VARIABLE = "TWINSPIRE_WEBHOOK_SECRET"
SHORTEST = 16  # characters of a secret
OLDEST_S = 300.0  # MLflow repeats a delivery for about a minute, with its first timestamp
MAX_NOTICE = 1 << 16  # bytes
ALIAS = "model_version_alias"
SIGNATURE, DELIVERY, TIMESTAMP = b"x-mlflow-signature", b"x-mlflow-delivery-id", b"x-mlflow-timestamp"
_VERSION = b"v1"


class Notice(BaseModel):
    """What MLflow says has happened; of its fields those that are read."""

    model_config = ConfigDict(extra="ignore")

    entity: str
    action: str


class Noticed(BaseModel):
    """Whether the replicas look now; other events than those of aliases are ignored."""

    status: str


class Signed:
    """Checks signatures by a secret, which is not told in any message."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def check(self, request: Request, body: bytes) -> None:
        """Refuses with 401 what is not signed with the secret, or was signed too long ago, or ahead of this clock."""
        given, delivery, stamp = (request.header(name) for name in (SIGNATURE, DELIVERY, TIMESTAMP))
        if given is None or delivery is None or stamp is None:
            raise Refusal(401, "give the webhook a secret in MLflow: this notice is not signed", SIGNATURE.decode())
        expected = hmac.digest(self._secret, b".".join((delivery, stamp, body)), hashlib.sha256)
        # Every signature is compared, for the same time each: a secret that is being changed gives two.
        right = [hmac.compare_digest(_digest(one), expected) for one in given.split(b" ")]
        if not any(right):
            raise Refusal(401, "the signature is not that of this server's webhook secret", SIGNATURE.decode())
        if not (stamp.isdigit() and len(stamp) < 16 and abs(time.time() - int(stamp)) <= OLDEST_S):
            raise Refusal(401, f"signed more than {OLDEST_S:g} seconds from now by this clock", TIMESTAMP.decode())


def read_secret(file: str | None) -> Signed | None:
    """The secret in `file`, else in TWINSPIRE_WEBHOOK_SECRET; None where neither is given. Errors: ConfigError."""
    if file is None:
        given, source = os.environ.get(SECRET_VARIABLE), SECRET_VARIABLE
        if given is None:
            return None
    else:
        source = file
        try:
            given = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: the webhook's secret cannot be read: {error}") from None
    secret = given.strip()
    if len(secret) < SHORTEST:
        raise ConfigError(f"{source}: a webhook's secret has at least {SHORTEST} characters; try openssl rand -hex 16")
    return Signed(secret.encode())


def _digest(signature: bytes) -> bytes:
    """The digest of one signature; empty, which no digest is, where it is none of ours."""
    version, _, encoded = signature.partition(b",")
    if version != _VERSION:
        return b""
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
