"""One experiment as a YAML file declares it. Unknown keys are refused; every refusal is one line that names the key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from twinspire.errors import ExperimentError
from twinspire.experiments.metrics import MetricsConfig
from twinspire.index.variation import Variation

if TYPE_CHECKING:
    from pathlib import Path

SCHEME = "models:/"

ExperimentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
ArmName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Declared):
    """What one arm's units get: a bundle (a folder, models:/NAME@ALIAS or models:/NAME/VERSION; left out, the server's
    default), and changes to how it ranks."""

    name: ArmName
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="its share of the units is weight over the sum")
    bundle: str | None = Field(None, min_length=1)
    parameters: Variation = Variation()

    @property
    def changes(self) -> frozenset[str]:
        """What the arm sets: `bundle`, and parameters by name."""
        return frozenset(self.parameters.model_fields_set | ({"bundle"} if self.bundle else set()))


class Range(_Declared):
    """Numbers from `min` to `max`, both included."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None


Value = bool | FiniteFloat | str
Condition = Range | list[Value] | Value


class Guardrails(_Declared):
    """Limits; an arm that breaks one is stopped."""

    p99_ms: float | None = Field(None, gt=0)
    empty_share: float | None = Field(None, gt=0, lt=1)
    error_share: float | None = Field(None, gt=0, lt=1)


class Experiment(_Declared):
    """A declared experiment; the first arm is the control.

    Experiments of one `layer` never share a unit: each takes a `share` of the layer's units. Experiments of different
    layers, or without one, are independent of each other. `interleave` drafts each answer from both arms instead of
    giving a unit one of them.
    """

    name: ExperimentName
    kind: Literal["split", "interleave"] = "split"
    salt: Annotated[str, StringConstraints(min_length=1, max_length=256)] = ""
    unit: Literal["user", "session"] = "user"
    layer: ExperimentName | None = None
    share: float = Field(1.0, gt=0, le=1)
    arms: tuple[Arm, ...] = Field(min_length=2, max_length=16)
    audience: dict[str, Condition] = Field(default_factory=dict, description="conditions on the request's user profile")
    start: datetime | None = None
    end: datetime | None = None
    status: Literal["draft", "running", "stopped"] = "draft"
    metrics: MetricsConfig = MetricsConfig()
    guardrails: Guardrails = Guardrails()

    @model_validator(mode="before")
    @classmethod
    def _salted(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        salt = given.get("salt")
        return {**given, "salt": given.get("name", "") if salt is None else str(salt)}  # YAML makes dates of some salts

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for moment in ("start", "end"):
            value = getattr(self, moment)
            if value is not None:
                object.__setattr__(self, moment, value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC))
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end: is not after start")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("arms: each needs a name of its own")
        if self.kind == "interleave" and len(self.arms) != 2:
            raise ValueError("arms: interleaving is between two")
        if self.kind == "interleave" and self.guardrails != Guardrails():
            raise ValueError(
                "guardrails: an interleaved answer is of both arms, so none of them can be blamed; leave out"
            )
        for column, condition in self.audience.items():
            if isinstance(condition, Range) and condition.min is None and condition.max is None:
                raise ValueError(f"audience.{column}: give min, max or both")
            if isinstance(condition, list) and not condition:
                raise ValueError(f"audience.{column}: give at least one value")
        return self

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def changes(self) -> frozenset[str]:
        """What any arm sets."""
        return frozenset().union(*(arm.changes for arm in self.arms))

    def arm(self, name: str) -> Arm:
        """The arm of that name. Errors: ExperimentError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ExperimentError(f"{self.name} has no arm {name!r}; it has {', '.join(arm.name for arm in self.arms)}")


def read_experiment(path: Path) -> Experiment:
    """Read one file. A bundle's relative folder is relative to the file's.

    Errors: ExperimentError, one line that names the file and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8'}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ExperimentError(f"{path}{where}: not YAML ({getattr(error, 'problem', None) or 'malformed'})") from None
    if not isinstance(content, dict):
        raise ExperimentError(f"{path}: must hold an experiment's keys: name, arms, ...")
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise ExperimentError(f"{path}: {_first(error)}") from None
    arms = tuple(arm.model_copy(update={"bundle": _address(arm.bundle, path.parent)}) for arm in experiment.arms)
    return experiment.model_copy(update={"arms": arms})


def _address(bundle: str | None, beside: Path) -> str | None:
    if bundle is None or bundle.startswith(SCHEME):
        return bundle
    return str((beside / bundle).absolute())


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    loc = found["loc"]
    if loc[:1] == ("audience",):
        loc = loc[:2]  # below it pydantic names the branches of a union
    key = ""
    for part in loc:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    said = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        said = "no such key"
    if found["type"] == "string_pattern_mismatch":
        said = "may hold small letters, digits and -" if loc[:1] != ("arms",) else "may hold letters, digits, . _ and -"
    return f"{key}: {said[:1].lower()}{said[1:]}" if key else said
