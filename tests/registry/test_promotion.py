"""Promote and roll back: who is champion, who was, and what is kept of it; one change at a time."""

import json
import multiprocessing
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient

from twinspire import registry
from twinspire.errors import RegistryError
from twinspire.mlflow_client import connect
from twinspire.registry import claims
from twinspire.registry.claims import claim
from twinspire.registry.gates import Gate

ROUNDS = 5


def passed(version, champion):
    """A decision that lets a version pass against a champion."""
    return registry.Decision(
        name="shop",
        candidate=version.uri,
        champion=champion and champion.uri,
        passed=True,
        gates=(Gate(name="cases", value=1.0, limit=0.0, passed=True, reason="1"),),
        config=registry.GateConfig(),
        dataset="shop",
        dataset_fingerprint="f",
        at=datetime.now(UTC),
        run_id=version.run_id,
    )


def there(name="shop", uri=None):
    return claims.aliases(connect(uri), name)


def test_the_new_one_is_champion_and_the_old_one_previous(versions):
    first, second, third = versions
    assert registry.promote(passed(second, first)).aliases == ("champion",)
    assert there() == {"champion": 2, "previous": 1}
    registry.promote(passed(third, second))
    assert there() == {"champion": 3, "previous": 2}
    assert registry.champion_of("shop").version == 3


def test_a_promotion_said_twice_is_made_once(versions):
    first, second, _ = versions
    registry.promote(passed(second, first))
    registry.promote(passed(second, first))
    assert there() == {"champion": 2, "previous": 1}


def test_a_first_version_needs_no_champion(store, copy_bundle):
    only = registry.register(copy_bundle(), "shop")
    assert registry.champion_of("shop") is None
    registry.promote(passed(only, None))
    assert there() == {"champion": 1}


def test_a_rollback_swaps_and_a_second_one_swaps_again(versions):
    first, second, _ = versions
    registry.promote(passed(second, first))
    started = time.perf_counter()
    assert registry.rollback("shop", reason="fewer carts").version == 1
    assert time.perf_counter() - started < 5  # a second, on a machine that does nothing else
    assert there() == {"champion": 1, "previous": 2}
    assert registry.rollback("shop").version == 2
    assert there() == {"champion": 2, "previous": 1}
    told = registry.history("shop")
    assert [(one.action, one.version, one.before) for one in told] == [
        ("rollback", 2, "1"),
        ("rollback", 1, "2"),
        ("promotion", 2, "1"),
        ("registration", 1, ""),
    ]
    assert told[1].reason == "fewer carts"
    assert "every gate passed" in told[2].reason


def test_there_is_nothing_to_go_back_to(versions, store):
    with pytest.raises(RegistryError, match="nothing to go back to: champion is version 1, previous none"):
        registry.rollback("shop")
    with pytest.raises(RegistryError, match=r"no model 'stop'.*it has shop"):
        registry.rollback("stop")
    assert [(one.action, one.version) for one in registry.history("shop")] == [("registration", 1)]


def test_a_decision_against_another_champion_is_overtaken(versions):
    first, second, third = versions
    late = passed(third, first)
    registry.promote(passed(second, first))
    with pytest.raises(registry.Overtaken, match="judged against models:/shop/1, but the champion is version 2 now"):
        registry.promote(late)
    with pytest.raises(registry.Overtaken, match="judged against no champion"):
        registry.promote(passed(third, None))
    assert there() == {"champion": 2, "previous": 1}


def test_a_refusal_is_promoted_only_by_force_whose_reason_is_kept(versions):
    first, second, _ = versions
    bad = Gate(name="gain mrr", value=-0.1, limit=0.0, passed=False, reason="it is worse")
    decision = passed(second, first).model_copy(update={"passed": False, "gates": (bad,)})
    with pytest.raises(RegistryError, match="models:/shop/2 is refused: gain mrr: it is worse"):
        registry.promote(decision)
    assert there() == {"champion": 1}
    registry.promote(decision, force="the other one is on fire")
    tags = registry.show("shop@champion").version.tags
    assert (tags["decision"], tags["decision_forced"]) == ("forced", "the other one is on fire")
    assert tags["gate gain mrr"] == "refused: it is worse"
    assert "on fire" in registry.history("shop")[0].reason


def test_a_version_can_be_promoted_unjudged_by_force_alone(versions):
    decision = registry.unjudged("shop", 3)
    with pytest.raises(RegistryError, match="refused"):
        registry.promote(decision)
    registry.promote(decision, force="night shift")
    assert there() == {"champion": 3, "previous": 1}
    assert registry.show("shop/3").version.tags["decision_reasons"] == "not judged"


def test_another_change_that_is_under_way_is_told(versions):
    first, second, third = versions
    client = connect()
    with claim(client, "shop", "promotion", second.version):
        with pytest.raises(registry.Busy, match=r"another promotion, of version 2 by .* is under way"):
            registry.promote(passed(third, first))
        assert there() == {"champion": 1}
    registry.promote(passed(third, first))
    assert there() == {"champion": 3, "previous": 1}


def begin(came):
    """What a process leaves that dies while it holds the claim, as far as it came."""
    held = claim(connect(), "shop", "promotion", 3)
    claimed = held.__enter__()
    for alias, version in came.items():
        claimed.set_alias(alias, version)
    return held  # to be kept: nobody leaves it


@pytest.mark.parametrize(
    ("came", "champion", "previous"),
    [
        ({}, 2, 1),
        ({"previous": 2}, 2, 1),
        ({"previous": 2, "champion": 3}, 3, 2),
    ],
)
def test_a_dead_promoter_blocks_no_more_when_its_lease_is_over_and_its_half_is_put_back(
    versions, monkeypatch, came, champion, previous
):
    first, second, _ = versions
    registry.promote(passed(second, first))
    dead = begin(came)
    with pytest.raises(registry.Busy):
        registry.promote(passed(versions[2], second))
    monkeypatch.setattr(claims, "LEASE_S", 0.2)
    time.sleep(0.3)
    with claim(connect(), "shop", "rollback", 1):
        pass
    assert there() == {"champion": champion, "previous": previous}
    del dead


@pytest.mark.slow
def test_a_promoter_that_is_killed_holds_a_rollback_up_for_its_lease_and_no_longer(versions):
    first, second, _ = versions
    registry.promote(passed(second, first))
    code = """
import os, signal
from twinspire.mlflow_client import connect
from twinspire.registry.claims import claim
with claim(connect(), "shop", "promotion", 3) as held:
    held.set_alias("previous", 2)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert there() == {"champion": 2, "previous": 2}
    started = time.monotonic()
    assert registry.rollback("shop").version == 1
    assert time.monotonic() - started < claims.LEASE_S + 5
    assert there() == {"champion": 1, "previous": 2}


def test_who_was_paused_past_its_lease_writes_nothing(versions, monkeypatch):
    monkeypatch.setattr(claims, "LEASE_S", 0.2)
    with claim(connect(), "shop", "promotion", 2) as held:
        time.sleep(0.3)
        with pytest.raises(registry.Busy, match="nothing more is changed"):
            held.set_alias("champion", 2)
    assert there() == {"champion": 1}


def _race(uri, number, rounds, barrier, results):
    """One of two promoters that begin together, again and again."""
    for turn in range(rounds):
        champion = registry.champion_of("shop", uri=uri)
        candidate = registry.list_versions("shop", uri=uri)
        own = [one for one in candidate if one.version != champion.version][number]
        decision = passed(own, champion)
        barrier.wait(60)
        try:
            registry.promote(decision, uri=uri)
            results.put((turn, number, own.version, "won"))
        except (registry.Busy, registry.Overtaken) as error:
            results.put((turn, number, own.version, type(error).__name__))
        barrier.wait(60)


def race(uri, rounds=ROUNDS):
    """Rounds of two processes that promote different versions at once; what became of each, and the champion."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=_race, args=(uri, number, rounds, barrier, results)) for number in (0, 1)]
    for racer in racers:
        racer.start()
    told = [results.get(timeout=120) for _ in range(2 * rounds)]
    for racer in racers:
        racer.join(30)
        assert racer.exitcode == 0
    return told


def check_race(told, uri, rounds=ROUNDS, start=1):
    """In every round one won, the other was told, and the aliases are those of the winners in their order."""
    champion, previous = start, None
    for turn in range(rounds):
        outcomes = {result: version for at, _, version, result in told if at == turn}
        assert "won" in outcomes, outcomes
        assert len(outcomes) == 2, f"both won in round {turn}"
        champion, previous = outcomes["won"], champion
    assert there(uri=uri) == {"champion": champion, "previous": previous}
    told = registry.history("shop", uri=uri)
    assert (len(told), told[0].version) == (rounds + 1, champion), "and the first champion's registration"


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(versions, store):
    check_race(race(store), store)


@pytest.mark.slow
def test_of_many_races_each_has_one_winner(versions, store):
    check_race(race(store, 40), store, 40)


def test_the_history_is_no_model_of_anybodys(versions):
    first, second, _ = versions
    registry.promote(passed(second, first))
    assert {one.name for one in registry.list_versions()} == {"shop"}
    with pytest.raises(RegistryError, match=r"it has shop$"):
        registry.list_versions("stop")


def test_what_is_kept_of_a_forced_decision_is_a_file_of_the_run(versions):
    registry.promote(registry.unjudged("shop", 2), force="why not")
    version = registry.show("shop/2").version
    client = MlflowClient()
    path = client.download_artifacts(version.run_id, version.tags["decision_file"])
    with open(path) as file:
        assert json.load(file)["forced"] == "why not"
