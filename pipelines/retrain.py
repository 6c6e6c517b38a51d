"""Retrain: a new log, a new model, judged on days that neither it nor the champion has seen, and promoted or refused.

The candidate is fitted without the log's last days (`log.holdout_days`, one by default) and judged on them, against the
champion, which saw no later ones. What is promoted is what was judged: nothing that was not is ever served, and the
held out day is learnt a day later. A bad day in the log meets the judge before it meets a shopper.

Killed anywhere and started again it goes on; once more on the same data, config and code it finds its own version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from pipelines.fit import fit
from twinspire import dataset, registry
from twinspire.bundle import Bundle
from twinspire.bundle.manifest import MANIFEST, sha256
from twinspire.errors import RegistryError
from twinspire.evaluation import EvaluationConfig
from twinspire.evaluation.comparison import Comparison, compare
from twinspire.registry.versions import CHECKSUM, check_name
from twinspire.retrain.attempt import KEY_TAG, Attempt, attempt_key, own_version, write_text
from twinspire.retrain.config import daily
from twinspire.retrain.refusal import keep_refusal
from twinspire.teacher.lessons import fingerprint
from twinspire.training.mlflow_run import abandon_run
from twinspire.work_folder import claim

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.config import Config
    from twinspire.registry import Decision, Version

STEPS = ("validate", "fit", "evaluate", "register", "gate", "promote")
TRIES = 3  # of a promotion while somebody else moves the champion


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `version` is None where the log was refused; `again`: it had ended so before."""

    kind: Literal["promoted", "refused"]
    version: Version | None
    champion: str | None
    reasons: list[str] = field(default_factory=list)
    again: bool = False


def retrain(
    data: Path,
    name: str,
    out: Path,
    config: Config,
    *,
    teacher: Path | None = None,
    quarantine: Path | None = None,
    evaluation: EvaluationConfig | None = None,
) -> Outcome:
    """Make a new version of the registered model `name` from `data`, and its champion where the gates let it.

    `out` is a folder for the attempt's bundle and what a killed one goes on from; an earlier attempt's is removed.
    Errors: any TwinspireError; then nothing is decided, and the champion stays. A log with too many bad rows is an
    outcome, not an error.
    """
    check_name(name)
    config, out = daily(config), out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with claim(out / name):
        try:
            source = _validate(data, config, quarantine)
        except dataset.BadRowsError as problem:
            keep_refusal(name, config.training.experiment, problem.report, [str(problem)])
            return Outcome("refused", None, _uri(_champion(name)), [str(problem)])
        taught_by = fingerprint(teacher) if teacher is not None else None
        attempt = Attempt(out, name, attempt_key(source.fingerprint, config, taught_by))
        own = own_version(name, attempt.key)
        if own is not None and (own.promoted or own.reasons):
            kind: Literal["promoted", "refused"] = "promoted" if own.promoted else "refused"
            return Outcome(kind, own.version, _uri(_champion(name)), own.reasons, again=True)
        for fit_id in attempt.clear_others():
            abandon_run(config.training.experiment, fit_id)
        bundle = _bundle(source, attempt, own.version if own else None, config, teacher)
        return _decide(source, attempt, bundle, config, evaluation or EvaluationConfig())


def _validate(data: Path, config: Config, quarantine: Path | None) -> dataset.Dataset:
    source = dataset.read(
        data,
        max_bad_share=config.dataset.max_bad_share,
        max_bad_share_newest=config.dataset.max_bad_share_newest,
        quarantine=quarantine,
        require_interactions=True,
    )
    log, bad = source.report.log, source.report.bad_rows
    until = f" until {log.last:%Y-%m-%d %H:%M}" if log and log.last else ""
    _step("validate", f"{source.report.tables['interactions'].rows:,} interactions{until}, {bad:,} bad rows left out")
    return source


def _bundle(
    source: dataset.Dataset, attempt: Attempt, own: Version | None, config: Config, teacher: Path | None
) -> Path:
    """The attempt's bundle: there already, registered already though its folder is gone, or fitted now."""
    start = attempt.start_from(_uri(_champion(attempt.name)))
    if (attempt.bundle / MANIFEST).is_file():
        _step("fit", f"{attempt.bundle} is there already")
        return attempt.bundle
    if own is not None:
        _step("fit", f"{own.uri} is there already")
        return registry.fetch(own.uri)
    _step("fit", f"{attempt.bundle}, the last {config.log.holdout_days:g} days held out")
    begin = registry.fetch(start) if start and config.training.start != "full" else None
    fit(source, attempt.bundle, config, teacher=teacher, start=begin)
    return attempt.bundle


def _decide(
    source: dataset.Dataset, attempt: Attempt, bundle: Path, config: Config, evaluation: EvaluationConfig
) -> Outcome:
    """Evaluate, register, judge and promote; from the start again where the champion moved meanwhile."""
    for left in reversed(range(TRIES)):
        champion = _champion(attempt.name)
        comparison = _evaluate(source, attempt, bundle, champion, evaluation)
        version = registry.register(bundle, attempt.name, tags={KEY_TAG: attempt.key})
        _step("register", version.uri)
        decision = registry.judge(attempt.name, version.version, comparison=comparison, gates=config.gates)
        _step("gate", decision.line())
        if not decision.passed:
            return Outcome("refused", version, decision.champion, decision.refusals)
        try:
            return Outcome("promoted", _promote(decision), decision.champion)
        except (registry.Overtaken, registry.Busy):
            if not left:
                raise
    raise AssertionError


def _evaluate(
    source: dataset.Dataset, attempt: Attempt, bundle: Path, champion: Version | None, evaluation: EvaluationConfig
) -> Comparison:
    """Measured against the champion of now, or read where that was done."""
    kept = _kept_comparison(attempt, bundle, champion)
    if kept is not None:
        _step("evaluate", "measured before")
        return kept
    against = (champion.uri.removeprefix("models:/"), Bundle.load(registry.fetch(champion.uri))) if champion else None
    _step("evaluate", f"against {champion.uri if champion else 'no champion'}")
    candidate = (attempt.label, Bundle.load(bundle))
    found = compare(candidate, against, source, config=evaluation, show_progress=True)
    write_text(found.model_dump_json(indent=1), attempt.comparison)
    return found


def _kept_comparison(attempt: Attempt, bundle: Path, champion: Version | None) -> Comparison | None:
    """Of the same two bundles."""
    try:
        kept = Comparison.model_validate_json(attempt.comparison.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = (kept.first.checksum, kept.second.checksum if kept.second else None)
    wanted = (sha256(bundle / MANIFEST), champion.tags[CHECKSUM] if champion else None)
    return kept if found == wanted else None


def _promote(decision: Decision) -> Version:
    version = registry.promote(decision)
    _step("promote", f"{version.uri} is champion")
    return version


def _champion(name: str) -> Version | None:
    """The champion; None where there is none, or no such model yet."""
    try:
        return registry.champion_of(name)
    except RegistryError:
        return None


def _uri(version: Version | None) -> str | None:
    return version.uri if version else None


def _step(name: str, told: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"{STEPS.index(name) + 1}/{len(STEPS)} {name}: {told}")


if __name__ == "__main__":
    from twinspire.cli import main

    main("retrain")
