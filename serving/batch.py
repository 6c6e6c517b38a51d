"""Many searches in one request: all queued together, answered together, refused together."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import orjson

from serving.limits import NEVER, overloaded
from twinspire.errors import RequestError

if TYPE_CHECKING:
    from serving.schema import BatchRequest
    from serving.service import Service


async def search_batch(
    service: Service, request: BatchRequest, request_id: str, deadline: float = NEVER, override: bytes | None = None
) -> bytes:
    """The body of the answer.

    Each search is in the experiments of its own user. Raises as a search does; what is wrong with one search names its
    place, as in `searches[3].user`. A batch is let in whole, so it may fill the queue past its bound.
    """
    version = service.versions.of(request.arm)
    if service.full():
        raise overloaded()
    started = time.perf_counter()
    choose = service.splitter.choose
    choices = [choose(one, request.arm, request_id, override) for one in request.searches]
    futures = [
        service.queue(choice, one, one.k or request.k, "", deadline)
        for choice, one in zip(choices, request.searches, strict=True)
    ]
    results: list[bytes] = []
    for place, found in enumerate(await asyncio.gather(*futures, return_exceptions=True)):
        if isinstance(found, RequestError):
            raise RequestError(f"searches[{place}].{found.field}", found.message)
        if isinstance(found, BaseException):
            raise found
        results.append(found)
    return b'{"request_id":"%s","arm":%s,"model":%s,"took_ms":%.3f,"results":[%s]}' % (
        request_id.encode(),
        orjson.dumps(version.arm),
        orjson.dumps(version.model),
        (time.perf_counter() - started) * 1000,
        b",".join(results),
    )
