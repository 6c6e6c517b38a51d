from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from twinspire.config import Config, load_config, named_configs
from twinspire.errors import ConfigError
from twinspire.index.fuse import RetrievalConfig
from twinspire.model import ModelConfig


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_each_setting_has_a_default_and_refuses_unknown_keys() -> None:
    for model in models(Config):
        assert model.model_config.get("extra") == "forbid", model
        for name, field in model.model_fields.items():
            assert not field.is_required(), f"{model.__name__}.{name} has no default"


def test_the_default_config_survives_its_own_dump() -> None:
    assert Config.model_validate(Config().model_dump()) == Config()
    assert Config.model_validate_json(Config().model_dump_json()) == Config()


@pytest.mark.parametrize("name", named_configs())
def test_named_configs_load_and_survive_json(name: str) -> None:
    config = load_config(name)
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert config != Config()


def test_the_papers_settings_are_a_named_config() -> None:
    paper = load_config("dpsr-paper")
    assert (paper.loss.kind, paper.loss.margin, paper.model.dim, paper.model.skip) == ("hinge", 0.1, 64, False)
    assert (paper.training.batch_size, paper.training.learning_rate) == (64, 0.01)


def test_the_papers_towers_are_named_configs_that_differ_in_the_query_features_alone() -> None:
    for name, query in (("dpsr", "text"), ("dpsr-p", "profile"), ("dpsr-h", "history")):
        features = Config().features.model_copy(update={"query": query})
        wanted = {
            "features": features,
            "model": ModelConfig(dim=128),
            "retrieval": RetrievalConfig(lexical=0, memory=0, trend=0),
        }
        assert load_config(name) == Config().model_copy(update=wanted)


def test_settings_come_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {dim: 32, heads: 2}\nlog: {until: 2024-01-02T00:00:00Z}\n")
    config = load_config(str(path), ("model.dim=128", "training.learning_rate=1e-3", "log.events=[click]"))
    assert (config.model.dim, config.model.heads) == (128, 2)
    assert config.training.learning_rate == 0.001
    assert config.log.events == ("click",)
    assert config.log.until is not None
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(str(tmp_path / "empty.yaml")) == Config()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.dmi=3", "model.dmi"),
        ("modle.dim=3", "modle"),
        ("model.dim=wide", "model.dim"),
        ("model.dim=0", "model.dim"),
        ("model.dim=", "model.dim"),
        ("model.dim=.nan", "model.dim"),
        ("model.dim.deep=3", "model.dim"),
        ("training.learning_rate=.nan", "training.learning_rate"),
        ("index.recall_target=2", "index.recall_target"),
        ("negatives.alpha=-0.1", "negatives.alpha"),
        ("log.events=[clik]", "log.events.0"),
        ("log.events=[]", "log.events"),
        ("log.until=2011-10-01", "log.until"),
        ("log.until=2011-13-01", "log.until"),
        ("log.holdout_days=.inf", "log.holdout_days"),
        ("features.query=[]", "features.query"),
        ("features.query=every", "features.query"),
        ("features.query=[{kind: history, of: brand, weights: {clik: 1}}]", "weights.clik"),
        ("features.query=[{kind: history, of: brand, weights: {click: 0}}]", "weights.click"),
        ("features.query=[{kind: history, of: brand, weights: {}}]", "weights"),
        ("features.query=[{kind: history, of: brand, half_life: 3}]", "half_life"),
        ("features.query=[{kind: history, of: brand, half_life_days: 0}]", "half_life_days"),
        ("features.query=[{kind: categroy, column: x}]", "features.query.0"),
        ("features.query=[{kind: category}]", "column"),
        ("features.item=[{kind: id, min_cout: 3}]", "min_cout"),
        ("model=3", "--set model=3"),
        ("model.dim", "--set model.dim"),
        (".dim=3", "--set .dim=3"),
        ("model.=3", "--set model.=3"),
        ("=", "--set ="),
        ("model.dim=[", "--set model.dim=["),
    ],
)
def test_a_bad_setting_is_one_line_that_names_the_key(setting: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, (setting,))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "model: [",
        "- a\n- b\n",
        "just text",
        "model: 3",
        "model: {dim: 64, dim2: 1}",
        "log: {until: 2011-13-01}",
        "1: 2",
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)
    assert "config" in str(caught.value)


def test_a_missing_file_names_the_named_configs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dpsr-paper") as caught:
        load_config(str(tmp_path / "none.yaml"))
    assert "none.yaml" in str(caught.value)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for not_text in (tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(ConfigError):
            load_config(str(not_text))


def test_a_setting_over_a_section_that_is_no_section(tmp_path: Path) -> None:
    path = tmp_path / "flat.yaml"
    path.write_text("model: 3\nloss:\n")
    with pytest.raises(ConfigError, match=r"model\.dim"):
        load_config(str(path), ("model.dim=3",))
    path.write_text("loss:\n")
    assert load_config(str(path), ("loss.margin=0.2",)).loss.margin == 0.2
