"""The whole config of a fit: one section a room, each typed beside the code that reads it. Unknown keys are refused.

A config is YAML: a file of the user's, or one that Twinspire brings by name (`dpsr-paper`). `--set
section.key=value` comes last.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinspire.dataset.config import DatasetConfig
from twinspire.errors import ConfigError
from twinspire.features.log import LogConfig
from twinspire.features.spec import FeatureConfig
from twinspire.features.supervision import SupervisionConfig
from twinspire.index.config import IndexConfig
from twinspire.index.fuse import RetrievalConfig
from twinspire.model.losses import LossConfig
from twinspire.model.towers import ModelConfig
from twinspire.registry.gates import GateConfig
from twinspire.text import TokeniserConfig
from twinspire.training.config import NegativeConfig, TrainingConfig

DIMENSIONS = ((200_000, 256), (2_000_000, 128), (math.inf, 64))  # up to so many items: embedding dimension


class Config(BaseModel):
    """Every section has defaults that measure well; a file states only what differs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetConfig = Field(DatasetConfig(), exclude=True)  # what is refused: it makes no other fit
    text: TokeniserConfig = TokeniserConfig()
    features: FeatureConfig = FeatureConfig()
    log: LogConfig = LogConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    negatives: NegativeConfig = NegativeConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    training: TrainingConfig = TrainingConfig()
    index: IndexConfig = IndexConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    gates: GateConfig = Field(GateConfig(), exclude=True)  # of a promotion: another limit makes no other fit

    def sized(self, items: int) -> Config:
        """The config with a dimension for a catalogue of this size, where `model.dim` was not set."""
        if "dim" in self.model.model_fields_set:
            return self
        dim = next(dim for most, dim in DIMENSIONS if items <= most)
        return self.model_copy(update={"model": self.model.model_copy(update={"dim": dim})})


def named_configs() -> list[str]:
    """Names of the configs that come with Twinspire."""
    folder = resources.files("twinspire") / "configs"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(source: str | None = None, settings: tuple[str, ...] = ()) -> Config:
    """Read a config file or a named config, apply `section.key=value` settings, check it all.

    Errors: ConfigError that names the file and the key.
    """
    data = _read(source) if source is not None else {}
    for setting in settings:
        _apply(data, setting)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if source in named_configs() and not path.is_file():
        text = (resources.files("twinspire") / "configs" / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"config {source}: {reason}; named configs are {', '.join(named_configs())}") from None
    try:
        data = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"config {source}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"config {source}: must be sections with keys, such as 'model: {{dim: 64}}'")
    return data


def _apply(data: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name or not section:
        raise ConfigError(f"--set {setting}: write section.key=value, such as model.dim=128")
    target = data.setdefault(section, {}) or {}
    data[section] = target
    *parents, leaf = name.split(".")
    for parent in parents:
        target = target.setdefault(parent, {}) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise ConfigError(f"--set {setting}: {key} does not name a key of a section")
    try:
        target[leaf] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {setting}: the value is not YAML") from None


def _first_problem(error: ValidationError) -> str:
    problems = error.errors()
    field = problems[0]["loc"][:2]
    # Of the branches of a union, the one that got furthest into the value says best what is wrong with it.
    problem = max((found for found in problems if found["loc"][:2] == field), key=lambda found: len(found["loc"]))
    key = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))
    if problem["type"] == "extra_forbidden":
        return f"config: unknown key {key}; {_known_keys(problem['loc'][:-1])}"
    given = f", not {problem['input']!r}" if not isinstance(problem["input"], dict) else ""
    return f"config: {key}: {problem['msg']}{given}"


def _known_keys(path: tuple[int | str, ...]) -> str:
    model: Any = Config
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    names = list(getattr(model, "model_fields", {}))
    return f"known are {', '.join(names)}" if names else "see the named configs for what is known"
