"""The endpoints of a search service: each handler reads a request, asks the service, writes a reply."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, ValidationError

from serving import headers
from serving.application import Application, Endpoint
from serving.batch import search_batch
from serving.limits import LONGEST_DEADLINE_MS, deadline, overloaded
from serving.openapi import document
from serving.problems import Refusal, from_validation
from serving.request import Reply, Request
from serving.schema import (
    BatchRequest,
    BatchResponse,
    Done,
    Events,
    Feedback,
    FeedbackRequest,
    FeedbackResponse,
    Load,
    OfArm,
    SearchRequest,
    SearchResponse,
    Shoppers,
    State,
    Status,
)
from serving.splitting import HEADER
from serving.versions import DEFAULT_ARM, MOST_SHOPPERS
from serving.webhook import ALIAS, MAX_NOTICE, PATH, Notice, Noticed
from twinspire.errors import EnvironmentProblem, TwinspireError

if TYPE_CHECKING:
    from serving.follow import Follower
    from serving.gate import Gate
    from serving.logs import RequestLog
    from serving.service import Service
    from serving.webhook import Signed

PAGES = Path(__file__).parent / "page"
HTML = b"text/html; charset=utf-8"
MAX_BATCH_BODY = 4 << 20  # bytes; all of them are read in one call, which holds up the other requests

DEADLINE = {
    "name": "x-deadline-ms",
    "in": "header",
    "description": "Milliseconds that the caller will wait; past them, a search that has not begun costs nothing.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_DEADLINE_MS},
}

ARM_HEADER = HEADER.encode()
OVERRIDE = {
    "name": HEADER,
    "in": "header",
    "description": "For testers: EXPERIMENT=ARM lets that arm answer, several between commas; * changes nothing. "
    "Both are kept as overrides, which no report counts.",
    "schema": {"type": "string"},
}

Incoming = TypeVar("Incoming", bound=BaseModel)


def application(
    service: Service,
    *,
    gate: Gate | None = None,
    log: RequestLog | None = None,
    names_requests: bool = True,
    webhook: Signed | None = None,
) -> Application:
    """The whole HTTP API over a service; with a `webhook`, MLflow's notices too. The other options are
    `Application`'s."""
    api = _Api(service, webhook)
    endpoints = api.endpoints()
    app = Application(endpoints, gate=gate, log=log, names_requests=names_requests)
    api.app = app
    api.openapi = orjson.dumps(document(endpoints))
    return app


def _read(model: type[Incoming], body: bytes) -> Incoming:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


def _read_events(body: bytes) -> Feedback | Events:
    """One event or several; which, the key `events` says, so that what is wrong is said of that form alone."""
    try:
        several = "events" in orjson.loads(body)
    except (orjson.JSONDecodeError, TypeError):
        several = False
    return _read(Events, body) if several else _read(Feedback, body)


def _done(arm: str, status: str) -> Reply:
    return Reply(orjson.dumps({"arm": arm, "status": status}), 202)


def _page(name: str) -> Reply:
    html = (PAGES / name).read_bytes()
    return Reply(html, content_type=HTML, headers=headers.page(html))


class _Api:
    app: Application
    openapi: bytes

    def __init__(self, service: Service, webhook: Signed | None = None) -> None:
        self.service, self._webhook = service, webhook
        self._page = _page("index.html")
        self._docs = _page("docs.html")

    async def search(self, request: Request) -> Reply:
        self._refuse_unless_free(request)
        until = deadline(request.header(b"x-deadline-ms"), request.arrived)
        asked = _read(SearchRequest, await request.json_body())
        choice = self.service.splitter.choose(asked, asked.arm, request.id, request.header(ARM_HEADER))
        return Reply(await self.service.search(asked, request.id, until, choice), arm=choice.label)

    async def search_batch(self, request: Request) -> Reply:
        self._refuse_unless_free(request)
        until = deadline(request.header(b"x-deadline-ms"), request.arrived)
        asked = _read(BatchRequest, await request.json_body(MAX_BATCH_BODY))
        self.app.gate.charge(request, len(asked.searches) - 1)
        override = request.header(ARM_HEADER)
        return Reply(await search_batch(self.service, asked, request.id, until, override), arm=asked.arm or DEFAULT_ARM)

    async def feedback(self, request: Request) -> Reply:
        told = _read_events(await request.json_body())
        events = told.events if isinstance(told, Events) else [told]
        try:
            ids = await self.service.feedback(events)
        except OSError as error:
            why = f"it could not be written ({error.strerror}), and nothing of it is kept; send it again"
            raise Refusal(503, why, headers=[(b"retry-after", b"1")]) from error
        kept = [{"request_id": one.request_id, "event_id": name} for one, name in zip(events, ids, strict=True)]
        return Reply(orjson.dumps({"events": kept} if isinstance(told, Events) else kept[0]), 202)

    async def load(self, request: Request) -> Reply:
        asked = _read(Load, await request.json_body())
        try:
            # Asks the registry: a thread, so that the event loop does not wait for it.
            await asyncio.to_thread(self._follower.want, asked.arm, asked.bundle)
        except TwinspireError as error:
            raise Refusal(422, str(error), "bundle") from None
        return _done(asked.arm, "loading")

    async def roll_back(self, request: Request) -> Reply:
        asked = _read(OfArm, await request.json_body())
        self._follower.roll_back(asked.arm)
        return _done(asked.arm, "rolled back")

    async def drop(self, request: Request) -> Reply:
        asked = _read(OfArm, await request.json_body())
        self._follower.drop(asked.arm)
        return _done(asked.arm, "dropped")

    async def notice(self, request: Request) -> Reply:
        body = await request.json_body(MAX_NOTICE)
        if self._webhook is None:
            raise Refusal(404, "this server takes no webhooks", "path")
        self._webhook.check(request, body)
        moved = _read(Notice, body).entity == ALIAS
        if moved:
            try:
                self._follower.look()
            except EnvironmentProblem as error:
                raise Refusal(503, str(error)) from None
        return Reply(orjson.dumps({"status": "looking" if moved else "ignored"}), 202)

    @property
    def _follower(self) -> Follower:
        if self.service.follower is None:
            raise Refusal(503, "this server follows nothing")
        return self.service.follower

    async def healthz(self, request: Request) -> Reply:
        return Reply(b'{"status":"alive"}')

    async def readyz(self, request: Request) -> Reply:
        self._refuse_unless_ready()
        return Reply(b'{"status":"ready"}')

    async def status(self, request: Request) -> Reply:
        told = self.service.status() | {"refused": self.app.refusals.total(), "failed": self.app.failed}
        return Reply(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))

    async def shoppers(self, request: Request) -> Reply:
        given = parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True).get("n", ["12"])[-1]
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= MOST_SHOPPERS):
            raise Refusal(422, f"n: must be a whole number from 1 to {MOST_SHOPPERS}", "n")
        # Reads the catalogue: a thread of its own, so that the event loop does not wait for it.
        return Reply(orjson.dumps(await asyncio.to_thread(self.service.shoppers, int(given))))

    async def page(self, request: Request) -> Reply:
        return self._page

    async def docs(self, request: Request) -> Reply:
        return self._docs

    async def openapi_json(self, request: Request) -> Reply:
        return Reply(self.openapi)

    def _refuse_unless_ready(self) -> None:
        if not self.service.ready:
            raise Refusal(503, "the bundle is not loaded and warm yet", headers=[(b"retry-after", b"1")])

    def _refuse_unless_free(self, request: Request) -> None:
        """Before anything is read: under an overload, a refusal has to cost less than an answer."""
        self._refuse_unless_ready()
        if self.service.full(time.perf_counter() - request.arrived):
            raise overloaded()

    def endpoints(self) -> list[Endpoint]:
        body = (400, 408, 413, 415, 422)
        n = {
            "name": "n",
            "in": "query",
            "description": "How many.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SHOPPERS, "default": 12},
        }
        notices = Endpoint("POST", PATH, self.notice, "MLflow's signed webhook: an alias has moved.", "open",
                           request=Notice, response=Noticed, refusals=(*body, 401, 503))  # fmt: skip
        return [
            *([notices] if self._webhook else []),
            Endpoint("POST", "/v1/search", self.search, "The k best items for a query and a shopper.",
                     request=SearchRequest, response=SearchResponse, parameters=(DEADLINE, OVERRIDE),
                     refusals=(*body, 503, 504)),
            Endpoint("POST", "/v1/search:batch", self.search_batch, "The same for up to 256 searches at once.",
                     request=BatchRequest, response=BatchResponse, parameters=(DEADLINE, OVERRIDE),
                     refusals=(*body, 503, 504)),
            Endpoint("POST", "/v1/feedback", self.feedback, "What shoppers did; 202 once it is on disk.",
                     request=FeedbackRequest, response=FeedbackResponse, refusals=(*body, 503)),
            Endpoint("POST", "/v1/admin/load", self.load, "Let an arm, new or not, serve another bundle.", "admin",
                     request=Load, response=Done, refusals=(*body, 503)),
            Endpoint("POST", "/v1/admin/rollback", self.roll_back, "Let an arm's previous version answer again.",
                     "admin", request=OfArm, response=Done, refusals=(*body, 503)),
            Endpoint("POST", "/v1/admin/drop", self.drop, "Serve an arm no more.", "admin",
                     request=OfArm, response=Done, refusals=(*body, 503)),
            Endpoint("GET", "/v1/shoppers", self.shoppers, "Sample shoppers that the bundle remembers.",
                     response=Shoppers, parameters=(n,), refusals=(422,)),
            Endpoint("GET", "/v1/status", self.status, "What one replica, the one that answers, serves and has done.",
                     response=Status),
            Endpoint("GET", "/healthz", self.healthz, "200 while the process answers.", "open", response=State),
            Endpoint("GET", "/readyz", self.readyz, "200 once the bundle is loaded and warm.", "open",
                     response=State, refusals=(503,)),
            Endpoint("GET", "/", self.page, "The web page.", "open", content_type="text/html"),
            Endpoint("GET", "/docs", self.docs, "This API, to read.", "open", content_type="text/html"),
            Endpoint("GET", "/openapi.json", self.openapi_json, "This API, for programs (OpenAPI 3.1).", "open"),
        ]  # fmt: skip
