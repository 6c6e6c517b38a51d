"""The life of a model on an MLflow server over PostgreSQL, and races of promoters through it."""

import pytest
from mlflow_server import MlflowServer
from postgres import postgres
from test_promotion import check_race, race

from twinspire import registry
from twinspire.evaluation import EvaluationConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUICK = EvaluationConfig(resamples=100)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with postgres() as database, MlflowServer(database, tmp_path_factory.mktemp("server"), workers=2) as running:
        yield running.uri


def test_judged_promoted_and_rolled_back(server, plain_week, hybrid_week, tiny_dataset, tmp_path):
    at = {"uri": server, "cache": tmp_path / "cache"}
    registry.register(plain_week, "life", uri=server)
    first = registry.judge("life", 1, tiny_dataset, evaluation=QUICK, **at)
    assert first.passed, first.refusals
    assert first.champion is None
    registry.promote(first, uri=server)
    registry.register(hybrid_week, "life", uri=server, alias="challenger")
    second = registry.judge(
        "life", "challenger", tiny_dataset, gates=registry.GateConfig(min_gain=-0.5), evaluation=QUICK, **at
    )
    registry.promote(second, uri=server)
    assert registry.show("life@champion", uri=server).version.aliases == ("challenger", "champion")
    assert registry.rollback("life", uri=server, reason="why not").version == 1
    assert registry.champion_of("life", uri=server).version == 1
    assert registry.show("life/2", uri=server).version.tags["decision"] == "passed"
    assert [one.action for one in registry.history("life", uri=server)] == ["rollback", "promotion", "promotion"]


def test_each_race_has_one_winner(server, copy_bundle):
    for number in (1, 2, 3):
        folder = copy_bundle(f"copy-{number}", version=str(number))
        registry.register(folder, "shop", uri=server, alias="champion" if number == 1 else None)
    check_race(race(server, 40), server, 40)
