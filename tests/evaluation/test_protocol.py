from datetime import UTC, datetime
from io import StringIO

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from rich.console import Console

from twinspire.evaluation import (
    EvaluationConfig,
    Report,
    TrainingClicks,
    baselines,
    evaluate,
    judged_pairs,
    protocol,
    render,
)

N_ITEMS = 30
ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(N_ITEMS)], "title": [f"thing {n}" for n in range(N_ITEMS)]})


class Oracle:
    """Scores the clicked item by `clicked`, and any item by its number in [0, 1)."""

    def __init__(self, name: str, clicked: float) -> None:
        self.name, self.clicked = name, clicked

    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        scores = np.tile(np.arange(N_ITEMS, dtype=np.float32) / N_ITEMS, (len(cases), 1))
        scores[np.arange(len(cases)), cases["item"].to_numpy()] = self.clicked
        return scores

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        return pairs["item"].to_numpy().astype(np.float32) * np.sign(self.clicked)


def some_cases(n: int = 200, seed: int = 0) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    item = generator.integers(N_ITEMS, size=n)
    return pl.DataFrame(
        {
            "query": [f"Thing {i}" if i % 2 else f"gadget no{i}" for i in item],
            "user_id": pl.Series([None] * n, dtype=pl.String),
            "timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * n,
            "item": pl.Series(item, dtype=pl.Int32),
        }
    )


TRAINING = TrainingClicks.of(some_cases(100, seed=1), N_ITEMS)
JUDGEMENTS = pl.DataFrame(
    {
        "query": ["a", "a", "a", "b", "b", "b"],
        "item_id": ["i9", "i1", "missing", "i8", "i2", "i3"],
        "grade": pl.Series([1.0, 0.0, 1.0, 1.0, 0.0, 0.5], dtype=pl.Float32),
    }
)


def report_of(**changes: object) -> Report:
    return evaluate(
        [Oracle("best", 2), Oracle("worst", -2)],
        some_cases(),
        titles=ITEMS["title"],
        training=TRAINING,
        judgements=judged_pairs(JUDGEMENTS, ITEMS),
        config=EvaluationConfig.model_validate({"resamples": 200, **changes}),
    )


def test_the_best_and_the_worst_ranking_have_the_figures_that_they_must() -> None:
    report = report_of()
    for where in ("all", "unseen", "no common word", "head"):
        assert report.value("best", "hit@1", where) == 1
        assert report.value("worst", "mrr", where) == pytest.approx(1 / N_ITEMS)
    assert report.value("best", "top1_of_1024") == 1
    assert report.value("worst", "top10_of_1024") == 0
    gain = report.slices["all"].differences["best - worst"]["hit@1"]
    assert (gain.value, gain.low, gain.high) == (1, 1, 1)
    assert report.value("best", "auc", "judgements") == 1
    assert report.value("worst", "auc_within_query", "judgements") == 0
    assert report.judgements is not None
    assert report.judgements.cases == 5  # the unknown item is left out


def test_differences_of_other_pairs_are_there_when_asked_for() -> None:
    report = evaluate(
        [Oracle("best", 2), Oracle("worst", -2), Oracle("middle", 0.5)],
        some_cases(),
        titles=ITEMS["title"],
        training=TRAINING,
        judgements=judged_pairs(JUDGEMENTS, ITEMS),
        compare=[("middle", "worst"), ("best", "worst")],
    )
    assert report.judgements is not None
    for section in (report.slices["all"], report.slices["tail"], report.judgements):
        assert list(section.differences) == ["best - worst", "best - middle", "middle - worst"]
        for metric, figure in section.differences["middle - worst"].items():
            levels = [section.systems[name][metric].value for name in ("middle", "worst")]
            assert figure.value == pytest.approx(levels[0] - levels[1])
    console = Console(record=True, width=140, file=StringIO())
    console.print(render(report))
    assert "middle vs worst" in console.export_text()


def test_slices_count_cases_and_queries() -> None:
    slices = report_of().slices
    assert slices["all"].cases == 200
    assert slices["all"].queries == some_cases()["query"].n_unique()
    assert sum(slices[name].cases for name in ("head", "torso", "tail", "unseen")) == 200


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure() -> Report:
        return evaluate(baselines(ITEMS["title"], TRAINING), some_cases(), titles=ITEMS["title"], training=TRAINING)

    whole = measure()
    monkeypatch.setattr(protocol, "_SCORES_A_BLOCK", 7 * N_ITEMS)
    assert measure() == whole


def test_more_cases_than_the_cap_are_sampled_with_the_seed() -> None:
    one, same, other = (report_of(max_cases=50, seed=seed) for seed in (1, 1, 2))
    assert (one.cases, one.cases_evaluated) == (200, 50)
    assert one == same
    assert one.slices["tail"].cases != other.slices["tail"].cases or one != other


def test_a_constant_score_earns_chance() -> None:
    class Constant(Oracle):
        def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
            return np.zeros((len(cases), N_ITEMS), np.float32)

    report = evaluate([Constant("constant", 0)], some_cases(5000), titles=ITEMS["title"], training=TRAINING)
    assert report.value("constant", "recall@10") == pytest.approx(10 / N_ITEMS, abs=0.03)


def test_scores_of_the_wrong_shape_and_names_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        evaluate([Oracle("best", 2)], some_cases(), titles=ITEMS["title"][:5], training=TRAINING)
    with pytest.raises(ValueError, match="distinct names"):
        evaluate([Oracle("a", 2), Oracle("a", 2)], some_cases(), titles=ITEMS["title"], training=TRAINING)


def test_scores_that_are_not_numbers_are_refused_with_the_systems_name() -> None:
    class Broken(Oracle):
        def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
            return np.full(len(pairs), np.nan, np.float32)

    for system, judgements in (
        (Oracle("broken", np.nan), None),
        (Broken("broken", 2), judged_pairs(JUDGEMENTS, ITEMS)),
    ):
        with pytest.raises(ValueError, match="'broken': a score is not a number"):
            evaluate([system], some_cases(), titles=ITEMS["title"], training=TRAINING, judgements=judgements)


def test_judgements_alone_are_enough() -> None:
    report = evaluate(
        [Oracle("best", 2)],
        some_cases(0),
        titles=ITEMS["title"],
        training=TRAINING,
        judgements=judged_pairs(JUDGEMENTS, ITEMS),
    )
    assert report.value("best", "hit@1") is None
    assert report.value("best", "ndcg@10", "judgements") == pytest.approx(1)


def test_the_report_survives_json_and_prints() -> None:
    report = report_of()
    assert Report.model_validate_json(report.model_dump_json()) == report
    console = Console(record=True, width=140, file=StringIO())
    console.print(render(report))
    text = console.export_text()
    assert "vs worst" in text
    assert "no common word" in text
    assert "judged pairs" in text


def test_long_names_are_folded_and_no_figure_is_cut() -> None:
    name = "a-bundle-of-november-with-two-heads"
    report = evaluate([Oracle("model", 0.5), Oracle(name, 0.1)], some_cases(), titles=ITEMS["title"], training=TRAINING)
    console = Console(record=True, width=80, file=StringIO())
    console.print(render(report))
    text = console.export_text()
    assert "…" not in text
    for estimate in report.slices["all"].differences[f"model - {name}"].values():
        if estimate.value is not None:
            assert f"{estimate.value:+.3f}" in text
