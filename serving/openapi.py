"""The OpenAPI 3.1 document, made from the table of endpoints and the models that validate the requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import models_json_schema

from serving.schema import Feedback, Problem
from twinspire import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from serving.application import Endpoint

Mode = Literal["validation", "serialization"]

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
        "components": {"schemas": definitions["$defs"]},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    status = "202" if endpoint.request is Feedback else "200"
    schema: dict[str, Any] = _reference(endpoint.response) if endpoint.response else {}
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('/', '_').replace('.', '_')}",
        "summary": endpoint.summary,
        "responses": {
            status: {
                "description": HTTPStatus(int(status)).phrase,
                "content": {endpoint.content_type: {"schema": schema}},
            },
            **{str(code): _problem(code) for code in endpoint.refusals},
        },
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
        "content": {"application/problem+json": {"schema": _reference(Problem)}},
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
