"""The endpoints of a search service: each handler reads a request, asks the service, writes a reply."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs
from uuid import uuid4

import orjson
from pydantic import BaseModel, ValidationError

from serving.application import Application, Endpoint, Reply, Request
from serving.openapi import document
from serving.problems import Refusal, from_validation
from serving.schema import Accepted, Feedback, SearchRequest, SearchResponse, Shoppers, State, Status
from serving.versions import MOST_SHOPPERS

if TYPE_CHECKING:
    from serving.service import Service

PAGES = Path(__file__).parent / "page"
HTML = b"text/html; charset=utf-8"

Incoming = TypeVar("Incoming", bound=BaseModel)


def application(service: Service) -> Application:
    """The whole HTTP API over a service."""
    api = _Api(service)
    endpoints = api.endpoints()
    app = Application(endpoints)
    api.app = app
    api.openapi = orjson.dumps(document(endpoints))
    return app


def _read(model: type[Incoming], body: bytes) -> Incoming:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


def _request_id(request: Request) -> str:
    """The caller's or the proxy's x-request-id where it is fit to stand in JSON as it is, else a new one."""
    given = request.header(b"x-request-id")
    if given and len(given) <= 128 and given.isascii():
        text = given.decode()
        if text.replace("-", "").replace("_", "").replace(".", "").isalnum():
            return text
    return uuid4().hex


class _Api:
    app: Application
    openapi: bytes

    def __init__(self, service: Service) -> None:
        self.service = service
        self._page = (PAGES / "index.html").read_bytes()
        self._docs = (PAGES / "docs.html").read_bytes()

    async def search(self, request: Request) -> Reply:
        asked = _read(SearchRequest, await request.json_body())
        self._refuse_unless_ready()
        return Reply(await self.service.search(asked, _request_id(request)))

    async def feedback(self, request: Request) -> Reply:
        told = _read(Feedback, await request.json_body())
        try:
            event_id = await self.service.feedback(told)
        except OSError as error:
            raise Refusal(503, f"the feedback could not be written: {error.strerror}") from error
        return Reply(orjson.dumps({"request_id": told.request_id, "event_id": event_id}), 202)

    async def healthz(self, request: Request) -> Reply:
        return Reply(b'{"status":"alive"}')

    async def readyz(self, request: Request) -> Reply:
        self._refuse_unless_ready()
        return Reply(b'{"status":"ready"}')

    async def status(self, request: Request) -> Reply:
        told = self.service.status() | {"refused": self.app.refused, "failed": self.app.failed}
        return Reply(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))

    async def shoppers(self, request: Request) -> Reply:
        given = parse_qs(request.query_string.decode("latin-1")).get("n", ["12"])[-1]
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= MOST_SHOPPERS):
            raise Refusal(422, f"n: must be a whole number from 1 to {MOST_SHOPPERS}", "n")
        # Reads the catalogue: a thread of its own, so that the event loop does not wait for it.
        return Reply(orjson.dumps(await asyncio.to_thread(self.service.shoppers, int(given))))

    async def page(self, request: Request) -> Reply:
        return Reply(self._page, content_type=HTML)

    async def docs(self, request: Request) -> Reply:
        return Reply(self._docs, content_type=HTML)

    async def openapi_json(self, request: Request) -> Reply:
        return Reply(self.openapi)

    def _refuse_unless_ready(self) -> None:
        if not self.service.ready:
            raise Refusal(503, "the bundle is not loaded and warm yet", headers=[(b"retry-after", b"1")])

    def endpoints(self) -> list[Endpoint]:
        body = (400, 413, 415, 422)
        n = {
            "name": "n",
            "in": "query",
            "description": "How many.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SHOPPERS, "default": 12},
        }
        return [
            Endpoint("POST", "/v1/search", self.search, "The k best items for a query and a shopper.",
                     SearchRequest, SearchResponse, refusals=(*body, 503)),
            Endpoint("POST", "/v1/feedback", self.feedback, "What a shopper did; 202 once it is on disk.",
                     Feedback, Accepted, refusals=(*body, 503)),
            Endpoint("GET", "/v1/shoppers", self.shoppers, "Sample shoppers that the bundle remembers.",
                     response=Shoppers, parameters=(n,), refusals=(422,)),
            Endpoint("GET", "/v1/status", self.status, "What one replica, the one that answers, serves and has done.",
                     response=Status),
            Endpoint("GET", "/healthz", self.healthz, "200 while the process answers.", response=State),
            Endpoint("GET", "/readyz", self.readyz, "200 once the bundle is loaded and warm.",
                     response=State, refusals=(503,)),
            Endpoint("GET", "/", self.page, "The web page.", content_type="text/html"),
            Endpoint("GET", "/docs", self.docs, "This API, to read.", content_type="text/html"),
            Endpoint("GET", "/openapi.json", self.openapi_json, "This API, for programs (OpenAPI 3.1)."),
        ]  # fmt: skip
