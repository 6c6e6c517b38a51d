"""A winning arm's bundle goes through the registry's gates and becomes the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinspire import registry
from twinspire.errors import ExperimentError
from twinspire.experiments.spec import SCHEME

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.experiments.report import Report
    from twinspire.experiments.spec import Experiment


def winning_bundle(experiment: Experiment, report: Report) -> str:
    """The registered bundle of the arm that the report says to ship, as the arm has it: `models:/NAME@ALIAS`, say.

    Errors: ExperimentError where the report does not say so, the arm's bundle is not a registered one, or it won with
    other parameters than the control's, which go on when the experiment is stopped.
    """
    if report.verdict.kind != "ship":
        raise ExperimentError(f"nothing to promote: {report.verdict.sentence}")
    arm = next(one for one in experiment.arms if one.name == report.verdict.arm)
    if arm.bundle is None or not arm.bundle.startswith(SCHEME):
        given = arm.bundle or "the server's default"
        raise ExperimentError(
            f"arm {arm.name} has {given}; only a bundle of the registry ({SCHEME}NAME@ALIAS) is promoted"
        )
    kept = experiment.control.parameters
    others = [name for name, value in arm.parameters if value != getattr(kept, name)]
    if others:
        raise ExperimentError(
            f"arm {arm.name} differs in {', '.join(others)} too, which its bundle does not bring along; "
            "use `twinspire registry promote`"
        )
    return arm.bundle


def promote(experiment: Experiment, report: Report, data: Path) -> str:
    """Judge the winner by the registry's gates on `data`; where all pass it becomes the champion. Gives its URI.

    Errors: ExperimentError of `winning_bundle`, and where the alias names another bundle than the one that answered
    last; RegistryError with the reasons where a gate refuses.
    """
    address = winning_bundle(experiment, report)
    named = registry.show(address).version
    bundle, answered = named.tags.get("bundle_version"), report.versions.get(report.verdict.arm or "", ())
    if answered and bundle != answered[-1]:
        raise ExperimentError(
            f"arm {report.verdict.arm} was answered by bundle {answered[-1]}, but {address} is bundle {bundle} now "
            f"({named.uri}); promote the version that ran, by `twinspire registry promote`"
        )
    return registry.promote(registry.judge(named.name, named.version, data)).uri
