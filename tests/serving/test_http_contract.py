"""The OpenAPI document and the behaviour agree; whatever is sent, nothing answers 5xx."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.schema import SearchRequest, SearchResponse
from serving.service import to_filters
from twinspire.errors import RequestError

RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = {"content-type": "application/json"}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
events = st.fixed_dictionaries(
    {"item_id": st.text(max_size=5) | scalars},
    optional={"event": st.sampled_from(["click", "cart", "x"]) | scalars, "timestamp": st.text() | scalars},
)
users = st.fixed_dictionaries(
    {},
    optional={
        "user_id": scalars,
        "profile": st.dictionaries(st.text(max_size=5), anything, max_size=3) | anything,
        "history": st.lists(events, max_size=3) | anything,
    },
)
conditions = st.one_of(
    st.sampled_from(["red mug", 3, 2.5, True, ["red mug"], [1, 2], {"min": 1}, {"min": 3, "max": 1}, {}]), anything
)
requests = st.fixed_dictionaries(
    {"query": st.text() | scalars},
    optional={
        "k": st.integers(-2, 1002) | scalars,
        "user": users | anything,
        "arm": st.just("default") | scalars,
        "explain": st.booleans() | scalars,
        "filters": st.dictionaries(st.sampled_from(["title", "price", "colour"]), conditions, max_size=2) | anything,
    },
)


def post(call, content):
    return asyncio.run(call("POST", "/v1/search", content=content, headers=JSON))


@RELAXED
@given(body=requests | anything)
def test_the_schema_decides_and_nothing_fails(call, retriever, body):
    content = json.dumps(body).encode()  # NaN, infinities and lone surrogates included
    answer = post(call, content)
    try:
        asked = SearchRequest.model_validate_json(content)
        valid = asked.arm in (None, "default")
        retriever.filters.select(to_filters(asked) or {})
    except (ValidationError, RequestError):
        valid = False
    assert (answer.status_code == 200) is valid
    if valid:
        SearchResponse.model_validate(answer.json(), extra="forbid")
    else:
        assert answer.status_code in (400, 422)
        assert answer.json()["field"]


@RELAXED
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_request_are_refused(call, content):
    assert post(call, content).status_code in (400, 422)


@RELAXED
@given(
    path=st.text(st.characters(codec="utf-8", exclude_characters="?#\\"), max_size=20),
    method=st.sampled_from(["GET", "POST", "PUT"]),
)
def test_any_path_and_method_is_answered(app, path, method):
    sent = []

    async def ask():
        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "/" + path, "query_string": b"n=\xff", "headers": []}
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] < 500


@pytest.fixture
def document(call):
    return asyncio.run(call("GET", "/openapi.json")).json()


def test_every_documented_operation_exists_and_answers_as_documented(document, call):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody")
            name = body and body["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            example = document["components"]["schemas"][name]["example"] if name else None
            answer = asyncio.run(call(method.upper(), path, json=example))
            documented = operation["responses"][str(answer.status_code)]["content"]
            # Nobody may administer a server without admin keys.
            assert answer.status_code == 403 if path.startswith("/v1/admin/") else answer.status_code < 300
            assert answer.headers["content-type"].split(";")[0] in documented


def test_references_resolve(document):
    names = document["components"]["schemas"]

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/components/schemas/") in names
            node = list(node.values())
        if isinstance(node, list):
            for part in node:
                walk(part)

    walk(document)


def test_pages_need_nothing_from_elsewhere(call):
    for path in ("/", "/docs"):
        page = asyncio.run(call("GET", path)).text
        assert "http://" not in page
        assert "https://" not in page
