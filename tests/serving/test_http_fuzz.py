"""Schemathesis over the OpenAPI document: valid and invalid requests of every operation, answered as documented."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving.endpoints import application
from serving.service import Service
from tests.serving.conftest import SmallRetriever

FEW, MANY = 40, 500
# A schema cannot say all that makes a request bad: a history in the future, a query of blanks, 5.0 for 5. And a search
# may be late, where the caller says how long they wait.
OWN = [positive_data_acceptance, not_a_server_error]


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("events"))
    service.put("default", SmallRetriever())
    config = SchemathesisConfig()
    schema = schemathesis.openapi.from_asgi("/openapi.json", application(service), config=config)
    yield [operation.ok() for operation in schema.get_all_operations()]
    service.close()


def ask_all(operations, mode, examples):
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not {"parameters", "requestBody"} & set(operation.definition.raw):
            continue  # nothing of it can be wrong

        @settings(
            max_examples=examples,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            answer = case.call_and_validate(excluded_checks=OWN)
            late = answer.status_code == 504 and "x-deadline-ms" in case.headers
            assert answer.status_code < 500 or late

        ask()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_requests_are_answered_as_documented(operations, mode):
    ask_all(operations, mode, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_thousands_of_requests_are_answered_as_documented(operations, mode):
    ask_all(operations, mode, MANY)
