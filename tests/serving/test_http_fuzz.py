"""Schemathesis over the OpenAPI document: valid and invalid requests of every operation, answered as documented."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from serving.endpoints import application
from serving.service import Service
from tests.serving.conftest import SmallRetriever

FEW, MANY = 40, 2000


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    service = Service(SmallRetriever(), tmp_path_factory.mktemp("feedback"))
    service.warm_up()
    config = SchemathesisConfig()
    schema = schemathesis.openapi.from_asgi("/openapi.json", application(service), config=config)
    yield [operation.ok() for operation in schema.get_all_operations()]
    service.close()


def ask_all(operations, mode, examples):
    for operation in operations:

        @settings(
            max_examples=examples,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.call_and_validate()

        ask()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_requests_are_answered_as_documented(operations, mode):
    ask_all(operations, mode, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_thousands_of_requests_are_answered_as_documented(operations, mode):
    ask_all(operations, mode, MANY)
