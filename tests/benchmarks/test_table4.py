"""The parts of the Table 4 benchmark: candidates and ranking, metrics, true lifts, traffic, on a tiny market."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import tiny_shop
import uvicorn
from rich.console import Console

from benchmarks.table4.__main__ import lost
from benchmarks.table4.counterfactual import lifts, pay
from benchmarks.table4.figure import draw
from benchmarks.table4.measures import METRICS, SLICES, Lift, Values, tail_of, true_lifts, values
from benchmarks.table4.shop import PAGE, Catalogue, InProcess, Ranking
from benchmarks.table4.show import show
from benchmarks.table4.traffic import Connection, Live, Played, pace, send
from benchmarks.table4.trials import ARMS, TRIALS, WHOLE, Trial
from benchmarks.table4.verdict import found, rows_of, title_of
from serving.endpoints import application
from serving.service import Service
from twinspire import processes
from twinspire.bundle import Bundle
from twinspire.experiments.analysis import analyse
from twinspire.experiments.assign import Plan
from twinspire.experiments.spec import read_experiment
from twinspire.index.variation import Variation
from twinspire.simulation import Searches, Truth, draw_visits, simulate, truth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.experiments.report import Report
    from twinspire.experiments.spec import Experiment

USERS, K = 150, 10


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table4") / "market"
    simulate(folder, items=400, users=USERS, interactions=8000, seed=2)
    return folder


@pytest.fixture(scope="module")
def market_truth(market: Path) -> Truth:
    return truth.load(market)


@pytest.fixture(scope="module")
def model(market: Path) -> Bundle:
    return Bundle.load(tiny_shop.fit_without_ray(market, market.parent / "model", lexical=0.3))


@pytest.fixture(scope="module")
def ranking(market: Path, market_truth: Truth, model: Bundle) -> Ranking:
    return Ranking(Catalogue(market, market_truth), model)


@pytest.fixture(scope="module")
def trial(market: Path, model: Bundle) -> Experiment:
    """Words alone against vectors, of one bundle."""
    del model
    folder = market.parent / "bundles"
    folder.mkdir()
    (folder / "1-head").symlink_to(market.parent / "model")
    (market.parent / "experiments").mkdir()
    trial = Trial("bm25-or-dpsr", "bm25", "1-head", WHOLE)
    path = trial.declare(market.parent / "experiments", market.parent, timedelta(minutes=30))
    return read_experiment(path)


@contextmanager
def _served(model: Bundle, trial: Experiment, events: Path) -> Iterator[str]:
    """The real application over a socket, its experiment running; at the end its events are parts."""
    service = Service(events)
    service.put("default", model)
    service.splitter.follow(Plan([trial]), {arm.bundle: "default" for arm in trial.arms if arm.bundle})
    service.events.start()
    port = processes.free_port()
    server = uvicorn.Server(uvicorn.Config(application(service), port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def _searches(rows: list[tuple[int, int, int, int, float, bool]]) -> Searches:
    """Of (visit, query, clicks, purchases, value, rephrased)."""
    visit, query, clicks, purchases, value, rephrased = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.zeros(len(rows), dtype=np.int32)
    return Searches(visit, nothing, query, nothing, clicks, nothing, purchases, value, rephrased)


def test_an_arm_only_adds_candidates(ranking: Ranking, model: Bundle) -> None:
    catalogue = ranking.catalogue
    query = np.arange(0, len(catalogue.texts), 25, dtype=np.int32)
    user = np.arange(len(query), dtype=np.int32) % USERS
    added = InProcess(catalogue, model, K, personal=False).add(user, query)
    page, alone = ranking.page(user, query, added), ranking.page(user, query, np.full_like(added, -1))
    for row in range(len(query)):
        own, more = set(catalogue.found[query[row]]), set(added[row])
        shown = page[row][page[row] >= 0]
        assert len(shown) == min(PAGE, len((own | more) - {-1}))
        assert set(shown) <= own | more
        assert set(alone[row]) <= own | {-1}
        scores, _ = model.index.scores(model.ask([catalogue.query(user[row], query[row])])[0], shown)
        assert (np.diff(scores) <= 0).all()
        kept = [item for item in shown if item in own]  # of its own candidates the shop keeps the order
        np.testing.assert_array_equal(kept, [item for item in alone[row] if item in kept])


def test_a_short_page_is_the_arms_alone(ranking: Ranking, model: Bundle) -> None:
    query = np.array([3, 8, 40], dtype=np.int32)
    user = np.array([1, 2, 3], dtype=np.int32)
    added = InProcess(ranking.catalogue, model, 4, personal=False).add(user, query)
    page = Ranking(ranking.catalogue, model, own=False).page(user, query, added)
    np.testing.assert_array_equal(np.sort(page[:, :4], axis=1), np.sort(added, axis=1))
    assert (page[:, 4:] == -1).all()


def test_candidates_are_the_same_whether_remembered_or_not(ranking: Ranking, model: Bundle) -> None:
    query = np.array([3, 8, 3, 40], dtype=np.int32)
    user = np.array([1, 2, 3, 4], dtype=np.int32)
    plain = model.varied(Variation(personalised=False))
    kept = InProcess(ranking.catalogue, plain, K, personal=False)
    np.testing.assert_array_equal(
        kept.add(user, query), InProcess(ranking.catalogue, plain, K, personal=True).add(user, query)
    )
    np.testing.assert_array_equal(kept.add(user[::-1], query[::-1]), kept.add(user, query)[::-1])


def test_metrics_by_hand() -> None:
    # Query 0 makes up six of nine searches, so queries 1 and 2 are the long tail.
    searches = _searches(
        [
            (0, 0, 1, 1, 20.0, False),
            (0, 1, 0, 0, 0.0, True),
            (0, 0, 1, 0, 0.0, False),
            (1, 0, 0, 0, 0.0, True),
            (1, 0, 0, 0, 0.0, False),
            (2, 2, 2, 2, 12.0, False),
            (2, 0, 0, 0, 0.0, False),
            (2, 1, 1, 1, 4.0, False),
            (3, 0, 0, 0, 0.0, False),
        ]
    )
    tail = tail_of([searches], 4)
    np.testing.assert_array_equal(tail, [False, True, True, True])
    found = {key: value.rate for key, value in values(searches, 4, tail).items()}
    assert found == pytest.approx(
        {
            ("all", "ucvr"): 2 / 4,
            ("all", "gmv_per_user"): 36 / 4,
            ("all", "qrr"): 2 / 9,
            ("long tail", "ucvr"): 1 / 2,
            ("long tail", "gmv_per_user"): 16 / 2,
            ("long tail", "qrr"): 1 / 3,
        }
    )


def test_true_lifts_cover_what_is_planted() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        wants = rng.random(2000)
        control, treatment = (
            {("all", "ucvr"): Values((wants < chance) * 1.0, np.ones(2000))} for chance in (0.2, 0.24)
        )
        lift = true_lifts(control, treatment)["all", "ucvr"]
        inside += lift.low <= 0.2 <= lift.high
    assert 180 <= inside <= 199
    assert 1000 < lift.users < 5000  # 2,240 for 20 against 24 % by the usual formula for shares


def test_the_counterfactual_pays_the_same_visits_to_every_arm(
    market_truth: Truth, ranking: Ranking, model: Bundle
) -> None:
    words = InProcess(ranking.catalogue, model.varied(Variation(retrieval="lexical")), K, personal=False)
    towers = InProcess(ranking.catalogue, model.varied(Variation(retrieval="vectors")), K, personal=False)
    users = np.arange(USERS, dtype=np.int32)
    found = pay(market_truth, ranking, {"words": words, "again": words, "towers": towers}, users, 2, seed=4)
    queries = len(market_truth.queries.text)
    same = lifts(found["words"], found["again"], USERS, queries)
    assert all(lift.value == lift.low == lift.high == 0 for lift in same.values())
    more = lifts(found["words"], found["towers"], USERS, queries)
    assert set(more) == set(same)
    assert all(lift.low <= lift.value <= lift.high for lift in more.values())
    first = [
        {(v, q) for v, q, o in zip(s.visit, s.query, s.order, strict=True) if o == 0}
        for s in (found["words"][0], found["towers"][0])
    ]
    assert first[0] == first[1]


def test_shoppers_after_the_end_are_no_part_of_it(
    market_truth: Truth, ranking: Ranking, model: Bundle, trial: Experiment, tmp_path: Path
) -> None:
    assert trial.start is not None
    over = trial.model_copy(update={"end": trial.start + timedelta(microseconds=1)})
    visits = draw_visits(market_truth, 7, np.arange(5, dtype=np.int32))
    with _served(model, over, tmp_path) as url, pytest.raises(RuntimeError, match="came after the experiment's end"):
        send(market_truth, visits, ranking, url, trial.name, K, seed=3)


@pytest.fixture(scope="module")
def run(
    market: Path, market_truth: Truth, ranking: Ranking, model: Bundle, trial: Experiment
) -> tuple[Path, Played, Report]:
    """The events of one visit of each shopper, what the client knows, and the report."""
    events = market.parent / "events"
    visits = draw_visits(market_truth, 7, np.arange(USERS, dtype=np.int32))
    with _served(model, trial, events) as url:
        played = send(market_truth, visits, ranking, url, trial.name, K, seed=3)
    return events, played, analyse(events, trial)


def test_the_report_says_what_the_client_saw(run: tuple[Path, Played, Report]) -> None:
    events, played, told = run
    assert (told.units, told.mixed, told.searches) == (USERS, 0, len(played.searches.visit))
    assert {arm.name: arm.units for arm in told.ratio.arms} == {
        arm: played.arms.count(arm) for arm in ("bm25", "1-head")
    }
    assert {one.metric for one in told.comparisons} == set(METRICS)
    every = np.ones(int(played.searches.query.max()) + 1, dtype=bool)
    for one in told.comparisons:
        for arm, reported in (("bm25", one.control), ("1-head", one.treatment)):
            of_arm = values(_of(played.searches, np.array(played.arms) == arm), USERS, every)
            assert reported == pytest.approx(of_arm["long tail", one.metric].rate)  # where all queries are the tail
    kept = pl.read_parquet(events / "interactions" / "*.parquet")
    assert kept["event_id"].n_unique() == len(kept)
    assert kept.filter(pl.col("event") == "purchase")["value"].sum() == pytest.approx(played.searches.value.sum())
    assert lost(events, played) == {"searches": 0, "outcomes": 0}


def _of(searches: Searches, visits: np.ndarray) -> Searches:
    kept = visits[searches.visit]
    return Searches(**{field.name: getattr(searches, field.name)[kept] for field in fields(Searches)})


def test_the_arm_over_http_is_the_arm_in_this_process(
    market_truth: Truth, ranking: Ranking, model: Bundle, trial: Experiment, tmp_path: Path
) -> None:
    user, query = np.arange(40, dtype=np.int32), np.arange(0, 400, 10, dtype=np.int32)
    offline = {
        name: InProcess(ranking.catalogue, model.varied(Variation(retrieval=ARMS[name].retrieval)), K, personal=True)
        for name in ("bm25", "1-head")
    }
    expected = {name: ranking.page(user, query, adds.add(user, query)) for name, adds in offline.items()}
    with _served(model, trial, tmp_path) as url:
        connection = Connection(url)
        live = Live(ranking, connection, trial.name, K)
        pages = live.pages(user, query)
        assert pace(draw_visits(market_truth, 1, user), ranking, url, K) > 0
        with pytest.raises(RuntimeError, match="was answered 422"):
            connection.post("/v1/feedback", {"events": []}, 202)
        connection.close()
    for row in range(len(user)):
        np.testing.assert_array_equal(pages[row], expected[live.arms[row]][row])


def test_verdict_table_and_picture(run: tuple[Path, Played, Report], tmp_path: Path) -> None:
    told = run[2]
    planted = {"ucvr": 0.1, "gmv_per_user": 0.3, "qrr": -0.2}
    measured = {"ucvr": (0.05, 0.2), "gmv_per_user": (-0.4, 0.1), "qrr": (0.1, 0.5)}
    true = {(part, name): Lift(0.2, 0.2, of, of, of, 1.0) for name, of in planted.items() for part in SLICES}
    changed = [
        {"once": None, "low": low, "high": high, "lift": (low + high) / 2, "p": 0.01} for low, high in measured.values()
    ]
    comparisons = [one.model_copy(update=change) for one, change in zip(told.comparisons, changed, strict=True)]
    rows = rows_of(true, told.model_copy(update={"comparisons": tuple(comparisons)}))
    assert {name: (cell["right"], cell["direction"]) for name, cell in rows["all"].items()} == {
        "ucvr": (True, "found"),
        "gmv_per_user": (False, "open"),
        "qrr": (False, "wrong"),
    }
    trial = {"control": "bm25", "treatment": "1-head", "users": 150, "searches": 300, "searches_a_second": 9.0}
    trials = {"one": trial | {"verdict": "Wait.", "rows": rows | {"long tail": {}}}}
    assert found(trials) == "1 of 3 intervals hold the true lift; directions: 1 found, 1 wrong, 1 open"
    assert draw({"trials": trials}, title_of(trials), tmp_path / "table4.png").stat().st_size > 10_000
    console = Console(record=True, width=80, file=io.StringIO())
    show({"trials": trials, "found": found(trials)}, console)
    text = console.export_text()
    assert "bm25 → 1-head" in text
    assert "+10.0 (+10.0 +10.0)" in text
    assert "−15.0 (−40.0 +10.0)" in text
    assert text.count("misses") == 2


def test_trials_are_declared_as_the_server_reads_them(tmp_path: Path) -> None:
    for trial in TRIALS:
        assert read_experiment(trial.declare(tmp_path, tmp_path)).status == "draft"
        declared = read_experiment(trial.declare(tmp_path, tmp_path, timedelta(minutes=3)))
        assert declared.status == "running"
        assert declared.end - declared.start == timedelta(minutes=3)
        assert tuple(arm.name for arm in declared.arms) == trial.names
        assert declared.arms[0].parameters.retrieval == ARMS[trial.control].retrieval
        assert declared.metrics.primary == "ucvr"
