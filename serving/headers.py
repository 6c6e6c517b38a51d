"""Headers that make a browser careful with every reply; the lists are made once."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Headers = tuple[tuple[bytes, bytes], ...]

CAREFUL: Headers = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
ANSWER: Headers = (*CAREFUL, (b"cache-control", b"no-store"))


def page(html: bytes) -> Headers:
    """Headers of a page that runs its own inline scripts and styles and asks this server, and nothing else."""
    policy = [
        b"default-src 'none'",
        b"script-src " + b" ".join(_hashes(html, b"script")),
        b"style-src " + b" ".join(_hashes(html, b"style")),
        b"img-src data:",
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'self'",
        b"frame-ancestors 'none'",
    ]
    return (*CAREFUL, (b"content-security-policy", b"; ".join(policy)), (b"cache-control", b"no-cache"))


def _hashes(html: bytes, tag: bytes) -> Iterator[bytes]:
    for inside in re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), html, re.DOTALL):
        yield b"'sha256-%s'" % base64.b64encode(hashlib.sha256(inside).digest())
