"""The gates before a promotion: what a candidate must show against the champion, and alone where there is none.

Pure: from a comparison to a verdict. A gate that cannot be measured does not pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.evaluation.bootstrap import Estimate
    from twinspire.evaluation.comparison import Comparison
    from twinspire.evaluation.report import Section

JUDGED = "judgements"
GIB = 1 << 30
AS_SLOW = 1.25  # times the champion's latency


class GateConfig(BaseModel):
    """What a version must show to become champion. Without a champion only the absolute gates are there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...] = Field(("mrr",), min_length=1, description="each must be better than the champion's")
    min_gain: float = Field(
        0.0, description="by more than this; below 0, so much worse is still as good (non-inferiority)"
    )
    certain: bool = Field(True, description="the low end of the paired 95 % interval must gain, not the figure alone")
    worst_slice: float = Field(0.05, ge=0, description="no slice of queries may lose more of a metric than this")
    slice_queries: int = Field(30, ge=1, description="slices of fewer distinct queries are not judged")
    min_cases: int = Field(
        100, ge=0, description="later clicks that a verdict needs; judged pairs, where the metrics are theirs alone"
    )
    floors: dict[str, float] = Field({}, description="the least of a metric, such as {recall@10: 0.5}")
    min_recall: float = Field(0.9, ge=0, le=1, description="the least recall@100 of the index, against exact search")
    max_p99_ms: float | None = Field(
        100.0, gt=0, description="of 99 % of searches, one at a time, or the champion beside"
    )
    max_gib: float | None = Field(32.0, gt=0, description="the largest size of the bundle's files")
    canaries: bool = Field(True, description="the bundle's canary queries must be answered as when it was written")


class Gate(BaseModel):
    """One gate's outcome: what was measured, what was asked for, and why it passed or not, in one line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: float | None
    limit: float | None
    passed: bool
    reason: str


def judge(comparison: Comparison, config: GateConfig) -> list[Gate]:
    """Every gate of the first bundle of a comparison; against the second where there is one."""
    gates = [*_absolute(comparison, config)]
    if comparison.second is not None:
        gates += [*_against(comparison, config)]
    return gates


def _absolute(comparison: Comparison, config: GateConfig) -> Iterator[Gate]:
    side = comparison.first
    judged = comparison.report.judgements
    if judged and all(comparison.where(metric) is judged for metric in config.metrics):
        yield _least("cases", float(judged.cases), config.min_cases, "judged pairs", digits=0)
    else:
        yield _least("cases", float(comparison.report.cases_evaluated), config.min_cases, "later clicks", digits=0)
    for metric, floor in config.floors.items():
        value = _value(comparison, metric)
        yield _least(f"floor {metric}", value, floor, metric)
    yield _least("index recall", side.recall_at_100, config.min_recall, "recall@100 of the index")
    if config.max_p99_ms is not None:
        yield _latency(comparison, config.max_p99_ms)
    if config.max_gib is not None:
        yield _most("size", side.bytes / GIB, config.max_gib, "GiB of files")
    if config.canaries:
        wrong = side.canary_problem
        told = wrong or f"{side.canaries} canary queries answered as when it was written"
        yield Gate(name="canaries", value=float(side.canaries), limit=None, passed=wrong is None, reason=told)


def _against(comparison: Comparison, config: GateConfig) -> Iterator[Gate]:
    for metric in config.metrics:
        yield _gain(comparison, metric, config)
    for name, section in comparison.report.slices.items():
        if name != "all" and comparison.report.cases_evaluated:
            for metric in config.metrics:
                yield _slice(name, section, metric, config)


def _gain(comparison: Comparison, metric: str, config: GateConfig) -> Gate:
    name, needed = f"gain {metric}", config.min_gain
    section = comparison.where(metric)
    found = None if section is None else _difference(section, metric)
    if found is None or found.value is None or found.low is None or found.high is None:
        return Gate(name=name, value=None, limit=needed, passed=False, reason=f"{metric} could not be measured")
    measured = found.low if config.certain else found.value
    told = f"{metric} {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) against the champion's"
    side = "the interval's low end" if config.certain else "the difference"
    passed = measured > needed
    reason = f"{told}; {side} must be above {needed:+.4f}" if not passed else told
    return Gate(name=name, value=measured, limit=needed, passed=passed, reason=reason)


def _slice(where: str, section: Section, metric: str, config: GateConfig) -> Gate:
    name, limit = f"slice {where} {metric}", -config.worst_slice
    found = _difference(section, metric)
    if section.queries < config.slice_queries or found is None or found.value is None:
        few = f"{section.queries} queries are too few to judge"
        return Gate(name=name, value=None, limit=limit, passed=True, reason=few)
    passed = found.value >= limit
    told = f"{metric} {found.value:+.4f} on {where} queries"
    reason = told if passed else f"{told}; no slice may lose more than {config.worst_slice:.4f}"
    return Gate(name=name, value=found.value, limit=limit, passed=passed, reason=reason)


def _latency(comparison: Comparison, limit: float) -> Gate:
    """At most the limit, or about as long as the champion: they are timed in turns, and a busy machine slows both."""
    told = "p99 of one search, in ms"
    gate = _most("latency", comparison.first.p99_ms, limit, told, digits=2)
    if gate.passed or comparison.second is None:
        return gate
    beside = comparison.second.p99_ms
    if beside > limit and comparison.first.p99_ms <= AS_SLOW * beside:
        reason = f"{told}: {comparison.first.p99_ms:,.2f}, the champion's beside it {beside:,.2f}: the machine is slow"
        return gate.model_copy(update={"passed": True, "reason": reason})
    return gate


def _least(name: str, value: float | None, limit: float, what: str, digits: int = 4) -> Gate:
    if value is None:
        return Gate(name=name, value=None, limit=limit, passed=False, reason=f"{what} could not be measured")
    passed = value >= limit
    told = f"{what}: {value:,.{digits}f}"
    reason = told if passed else f"{told}; at least {limit:,.{digits}f} is needed"
    return Gate(name=name, value=value, limit=limit, passed=passed, reason=reason)


def _most(name: str, value: float, limit: float, what: str, digits: int = 4) -> Gate:
    passed = value <= limit
    told = f"{what}: {value:,.{digits}f}"
    reason = told if passed else f"{told}; at most {limit:,.{digits}f} is allowed"
    return Gate(name=name, value=value, limit=limit, passed=passed, reason=reason)


def _difference(section: Section, metric: str) -> Estimate | None:
    figures = next(iter(section.differences.values()), {})
    return figures.get(metric)


def _value(comparison: Comparison, metric: str) -> float | None:
    section = comparison.where(metric)
    return None if section is None else next(iter(section.systems.values()))[metric].value
