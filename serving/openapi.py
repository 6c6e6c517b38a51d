"""The OpenAPI 3.1 document, made from the table of endpoints and the models that validate the requests."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import models_json_schema

from serving.schema import Done, FeedbackResponse, Problem
from serving.webhook import Noticed
from twinspire import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from serving.application import Endpoint
    from serving.gate import Access

Mode = Literal["validation", "serialization"]

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_EITHER: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
_REFUSED_BY_GATE: dict[Access, tuple[int, ...]] = {"open": (), "search": (401, 429), "admin": (401, 403, 429)}
_REQUEST_ID = {
    "x-request-id": {"description": "The request's own, or one made for it.", "schema": {"type": "string"}},
}
_RETRY_AFTER = {"retry-after": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
_REFERENCE = "#/components/schemas/{model}"


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    models: list[tuple[type[BaseModel], Mode]] = [(Problem, "serialization")]
    for endpoint in endpoints:
        if endpoint.request:
            models.append((endpoint.request, "validation"))
        if endpoint.response:
            models.append((endpoint.response, "serialization"))
    _, definitions = models_json_schema(list(dict.fromkeys(models)), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Twinspire",
            "version": __version__,
            "description": "Personalised semantic retrieval for e-commerce search.",
        },
        "paths": paths,
        "components": {"schemas": definitions["$defs"], "securitySchemes": _KEYS},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    status = "202" if endpoint.response in (FeedbackResponse, Done, Noticed) else "200"
    schema: dict[str, Any] = _reference(endpoint.response) if endpoint.response else {}
    operation: dict[str, Any] = {
        "operationId": endpoint.method.lower() + re.sub(r"\W", "_", endpoint.path),
        "summary": endpoint.summary,
        "responses": {
            status: {
                "description": HTTPStatus(int(status)).phrase,
                "headers": _REQUEST_ID,
                "content": {endpoint.content_type: {"schema": schema}},
            },
            **{str(code): _problem(code) for code in (*endpoint.refusals, *_REFUSED_BY_GATE[endpoint.access])},
        },
        # A server without keys answers everyone, and so the empty requirement.
        "security": {"open": [], "search": [*_EITHER, {}], "admin": _EITHER}[endpoint.access],
    }
    if endpoint.parameters:
        operation["parameters"] = list(endpoint.parameters)
    if endpoint.request:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(endpoint.request)}},
        }
    return operation


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _REQUEST_ID | (_RETRY_AFTER if status in (429, 503) else {}),
        "content": {"application/problem+json": {"schema": _reference(Problem)}},
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
