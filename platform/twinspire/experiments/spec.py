"""One experiment as a YAML file: arms, who takes part, what decides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from twinspire.errors import ExperimentError
from twinspire.experiments.metrics import MetricsConfig

if TYPE_CHECKING:
    from pathlib import Path


class Arm(BaseModel):
    """One way of answering; `bundle` left out is the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    weight: float = Field(default=1.0, gt=0)
    bundle: str | None = None
    parameters: dict[str, Any] = {}


class Guardrails(BaseModel):
    """Limits that an arm must keep; one that breaks one is stopped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    p99_ms: float | None = Field(default=None, gt=0)
    empty_share: float | None = Field(default=None, gt=0, lt=1)
    error_share: float | None = Field(default=None, gt=0, lt=1)


class Experiment(BaseModel):
    """The first arm is the control."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    kind: Literal["split", "interleave"] = "split"
    salt: str = ""
    unit: Literal["user", "session"] = "user"
    layer: str | None = None
    share: float = Field(default=1.0, gt=0, le=1)
    arms: tuple[Arm, ...] = Field(min_length=2)
    audience: dict[str, Any] = {}
    start: datetime | None = None
    end: datetime | None = None
    status: Literal["draft", "running", "stopped"] = "draft"
    metrics: MetricsConfig = MetricsConfig()
    guardrails: Guardrails = Guardrails()

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, time: datetime | None) -> datetime | None:
        return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("two arms have one name")
        if self.start and self.end and self.end <= self.start:
            raise ValueError("end is not after start")
        return self


def read_experiment(path: Path) -> Experiment:
    """Read one file; ExperimentError names the file and the key."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Experiment.model_validate(data)
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "experiment"
        raise ExperimentError(f"{path.name}: {key}: {problem['msg'].removeprefix('Value error, ')}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ExperimentError(f"{path.name}: not YAML: {' '.join(str(error).split())}") from None
