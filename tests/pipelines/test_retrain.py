"""The daily loop on a tiny shop: promoted, found again, refused, gone on with after a kill at each step.

Fits are real ones without Ray; `test_retrain_command.py` has the command as a whole.
"""

import shutil
from datetime import timedelta

import mlflow
import polars as pl
import pytest
import tiny_shop

from pipelines import retrain as pipeline
from twinspire import registry
from twinspire.bundle import Manifest
from twinspire.config import load_config
from twinspire.evaluation import EvaluationConfig
from twinspire.mlflow_client import connect

GATES = ("gates.min_cases=20", "gates.max_p99_ms=null", "gates.worst_slice=1")
EVALUATION = EvaluationConfig(resamples=100, n_random=20)
PART_DAYS = 3


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}", create=True)
    return path


class Shop:
    """A shop whose log comes in parts of three days, and the loop on it; counts the fits."""

    def __init__(self, folder, tables, monkeypatch):
        self.folder, self.data, self.out = folder, folder / "shop", folder / "retrain"
        self.fits = 0
        (self.data / "interactions").mkdir(parents=True)
        for name in ("items", "users"):
            shutil.copy(tables / f"{name}.parquet", self.data)
        self.log = pl.read_parquet(tables / "interactions.parquet")
        monkeypatch.setattr(pipeline, "fit", self.fit)

    def until(self, part):
        """The log up to this part; gives the newest part's file."""
        for number in range(part + 1):
            since = tiny_shop.START + timedelta(days=PART_DAYS * number)
            rows = self.log.filter(pl.col("timestamp").is_between(since, since + timedelta(days=PART_DAYS), "left"))
            path = self.data / "interactions" / f"part-{number:02d}.parquet"
            rows.write_parquet(path)
        return path

    def fit(self, source, out, config, *, teacher, start):
        self.fits += 1
        assert config.log.holdout_days == PART_DAYS
        data = source.path if config.training.learning_rate < 1 else self.shuffled()
        tiny_shop.fit_without_ray(data, out, (f"log.holdout_days={PART_DAYS}",), memory=0.5)

    def shuffled(self):
        """The shop with a log whose clicks are anybody's."""
        folder = self.folder / "shuffled"
        folder.mkdir()
        for name in ("items", "users"):
            shutil.copy(self.data / f"{name}.parquet", folder)
        log = pl.read_parquet(self.data / "interactions" / "*.parquet")
        log.with_columns(pl.col("item_id").shuffle(seed=1)).write_parquet(folder / "interactions.parquet")
        return folder

    def retrain(self, *settings):
        config = load_config(None, (*GATES, f"log.holdout_days={PART_DAYS}", *settings))
        return pipeline.retrain(self.data, "shop", self.out, config, evaluation=EVALUATION)

    def versions(self):
        return [version.version for version in registry.list_versions("shop")]


@pytest.fixture
def shop(tmp_path, tiny_dataset, empty_store, monkeypatch):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TWINSPIRE_CACHE", str(tmp_path / "cache"))
    return Shop(tmp_path, tiny_dataset, monkeypatch)


def test_days_of_a_shop(shop):
    """Promoted, found again, refused by the gates, refused for its log, promoted again."""
    shop.until(6)
    first = shop.retrain()
    assert (first.kind, first.version.uri, first.champion, first.again) == ("promoted", "models:/shop/1", None, False)
    again = shop.retrain()
    assert (again.kind, again.version.uri, again.again) == ("promoted", "models:/shop/1", True)
    assert (shop.fits, shop.versions()) == (1, [1])

    broken = shop.until(7) and shop.retrain("training.learning_rate=50")
    assert (broken.kind, broken.version.version, broken.champion) == ("refused", 2, "models:/shop/1")
    assert any(reason.startswith("gain mrr: mrr -0.") for reason in broken.reasons), broken.reasons
    twice = shop.retrain("training.learning_rate=50")
    assert (twice.kind, twice.version.version, twice.again) == ("refused", 2, True)
    assert sorted(twice.reasons) == sorted(broken.reasons)
    assert registry.champion_of("shop").version == 1
    assert shop.fits == 2

    newest = shop.until(8)
    rows = pl.read_parquet(newest)
    half = pl.int_range(pl.len()) % 2 == 0
    rows.with_columns(pl.when(half).then(pl.lit("gone")).otherwise("item_id").alias("item_id")).write_parquet(newest)
    for _ in range(2):
        bad = shop.retrain("dataset.max_bad_share=0.5")
        assert (bad.kind, bad.version, bad.champion) == ("refused", None, "models:/shop/1")
        assert bad.reasons[0].startswith("interactions: of its newest file, part-08.parquet: 72 of 144 rows (50.00 %)")
    store = mlflow.MlflowClient()
    (run,) = store.search_runs(["1"], "tags.retrain_outcome = 'refused: the log'")
    assert run.data.metrics["bad_rows/interactions"] == 72
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/reasons.txt")
    assert text.strip() == bad.reasons[0]
    assert shop.versions() == [2, 1]

    shop.until(8)
    mended = shop.retrain()
    assert (mended.kind, mended.version.version, mended.champion) == ("promoted", 3, "models:/shop/1")
    manifest = Manifest.read(next(shop.out.glob("shop-*/manifest.json")).parent)
    assert manifest.trained_until < "2026-01-25", "its newest days are held out"
    left = {path.name.split(".")[-1] for path in shop.out.iterdir() if path.is_file()}
    assert len(list(shop.out.glob("shop-*/"))) == 1, "the bundles of earlier attempts are gone"
    assert left <= {"json"}


class Killed(BaseException):
    """Nothing of ours catches it."""


def test_killed_at_each_step_it_goes_on(shop, monkeypatch):
    shop.until(6)
    said, real = [], pipeline._step
    for place in pipeline.STEPS:
        monkeypatch.setattr(pipeline, "_step", killing(place, lambda name, told: said.append(name) or real(name, told)))
        with pytest.raises(Killed):
            shop.retrain()
    monkeypatch.setattr(pipeline, "_step", real)
    assert set(said) == set(pipeline.STEPS)
    ended = shop.retrain()
    assert (ended.kind, ended.again) == ("promoted", True), "the last kill came after the promotion"
    assert (shop.fits, shop.versions()) == (1, [1])
    assert registry.champion_of("shop").version == 1

    shop.until(7)
    monkeypatch.setattr(pipeline, "_step", killing("register", real))
    with pytest.raises(Killed):
        shop.retrain()
    monkeypatch.setattr(pipeline, "_step", killing("promote", real))
    shutil.rmtree(shop.out)
    monkeypatch.setattr("twinspire.registry.claims.DONE", "open")  # as of a process that died before it said so
    with pytest.raises(Killed):
        shop.retrain()
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shop.folder / 'mlflow.db'}")
    monkeypatch.setenv("TWINSPIRE_CACHE", str(shop.folder / "cache"))
    monkeypatch.setattr(pipeline, "fit", shop.fit)
    ended = shop.retrain()
    assert (ended.kind, ended.again, ended.version.version) == ("promoted", True, 2)
    assert (shop.fits, shop.versions()) == (2, [2, 1]), "its registered bundle was used, though the folder was lost"


def killing(place, real):
    def step(name, told):
        real(name, told)
        if name == place:
            raise Killed

    return step


def test_a_champion_that_moves_meanwhile_is_judged_against(shop, monkeypatch):
    shop.until(6)
    shop.retrain()
    shop.until(7)
    real = pipeline._promote

    def overtaken(decision):
        monkeypatch.setattr(pipeline, "_promote", real)
        folder = next(shop.out.glob("shop-*/manifest.json")).parent
        copied = shutil.copytree(folder, shop.folder / "other")
        from edited import edit_manifest

        edit_manifest(copied, version="other")
        other = registry.register(copied, "shop")
        registry.promote(replace_candidate(decision, other.uri))
        return real(decision)

    monkeypatch.setattr(pipeline, "_promote", overtaken)
    ended = shop.retrain()
    assert (ended.version.version, ended.champion) == (2, "models:/shop/3"), "judged again, against the new champion"
    assert ended.kind == "promoted"
    assert shop.fits == 2


def replace_candidate(decision, uri):
    return decision.model_copy(update={"candidate": uri})


def test_other_settings_are_another_attempt(shop):
    shop.until(6)
    config = load_config(None, GATES)
    key = pipeline.attempt_key("data", config, None)
    assert key == pipeline.attempt_key("data", load_config(None, GATES), None)
    others = [
        pipeline.attempt_key("other", config, None),
        pipeline.attempt_key("data", config, "teacher"),
        pipeline.attempt_key("data", load_config(None, (*GATES, "model.dim=8")), None),
        pipeline.attempt_key("data", load_config(None, (*GATES, "gates.min_gain=0.1")), None),
        pipeline.attempt_key("data", load_config(None, (*GATES, "dataset.max_bad_share=0.5")), None),
    ]
    assert len({key, *others}) == len(others) + 1


def test_the_loop_s_own_defaults_give_way(shop):
    unsaid = pipeline.daily(load_config())
    assert (unsaid.log.holdout_days, unsaid.gates.min_gain) == (1, -0.02)
    said = pipeline.daily(load_config(None, ("log.holdout_days=2", "gates.min_gain=0")))
    assert (said.log.holdout_days, said.gates.min_gain) == (2, 0)


def test_what_yesterday_s_killed_attempt_left_goes(tmp_path):
    attempts = [pipeline.Attempt(tmp_path, "shop", digit * 32) for digit in "ab"]
    other = pipeline.Attempt(tmp_path, "shop-two", "c" * 32)
    for number, attempt in enumerate([*attempts, other]):
        attempt.start_from("models:/shop/1")
        work = tmp_path / f".{attempt.label}.work"
        work.mkdir()
        (work / "fit.json").write_text(f'{{"identity": "", "fit_id": "fit-{number}"}}')
        attempt.bundle.mkdir()
        attempt.comparison.write_text("{}")
    yesterday, today = attempts
    assert today.clear_others() == ["fit-0"]
    left = {path.name for path in tmp_path.iterdir()}
    assert not any(yesterday.label in name for name in left)
    assert {today.label, f".{today.label}.work", other.label, f".{other.label}.work"} <= left
    assert today.start_from("models:/shop/2") == "models:/shop/1", "as when it was begun"
    assert today.clear_others() == []
