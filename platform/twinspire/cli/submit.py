"""`--submit ADDRESS`: a pipeline's command as a Ray job on a cluster elsewhere."""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.jobs import Outcome

OUTPUTS = ("out", "quarantine")  # options that name what is written; other paths have to be there
OWN = ("submit", "submit_cpus")


def submittable(command: click.Command, pipeline: str) -> click.Command:
    """The command with `--submit`; run in a Ray job, it first looks whether its paths are there.

    A relative path is meant from here, so the job is given an absolute one.
    """
    run = command.callback
    if run is None or any(option.name == "submit" for option in command.params):
        return command

    @functools.wraps(run)
    def callback(submit: str | None, submit_cpus: float, **given: Any) -> None:
        context = click.get_current_context()
        if submit:
            _submit(submit, pipeline, list(_arguments(context)), submit_cpus)
        _refuse_unseen(context)
        run(**given)

    command.callback = callback
    command.params += [
        click.Option(
            ["--submit"],
            metavar="ADDRESS",
            help="Run as a job on the Ray cluster whose dashboard is there, such as http://head:8265, and follow it.",
        ),
        click.Option(
            ["--submit-cpus"],
            default=1.0,
            show_default=True,
            type=click.FloatRange(0),
            help="CPUs that the job's own process reserves, and threads it uses, on one of the cluster's nodes.",
        ),
    ]
    return command


def _submit(address: str, pipeline: str, arguments: list[str], cpus: float) -> NoReturn:
    from twinspire import jobs

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    outcome = jobs.submit(address, pipeline, arguments, cpus=cpus, say=lambda text: click.echo(text, nl=False))
    _link(outcome)
    job = f"job {outcome.job_id}" + (f", MLflow run {outcome.run_id}" if outcome.run_id else "")
    if outcome.exit_code == 0:
        click.echo(f"{job}: done")
    elif outcome.reason is not None or outcome.exit_code != jobs.INTERRUPTED:
        reason = outcome.reason or f"failed with exit code {outcome.exit_code}"
        click.echo(f"error: {job}: {reason}", err=True)
    else:
        click.echo(f"{job}: stopped", err=True)
    sys.exit(outcome.exit_code)


def _link(outcome: Outcome) -> None:
    """Under `mlflow run`: its own run, which holds the parameters, is the parent of the job's."""
    from twinspire import jobs
    from twinspire.errors import TwinspireError

    parent = os.environ.get("MLFLOW_RUN_ID")
    if parent and outcome.run_id and parent != outcome.run_id:
        try:
            jobs.link(parent, outcome.run_id)
        except TwinspireError as problem:
            click.echo(f"not linked to MLflow run {parent}: {problem}", err=True)


def _interrupt(number: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `mlflow run` sends one after Ctrl-C; the job is being stopped
    raise KeyboardInterrupt


def _arguments(context: click.Context) -> Iterator[str]:
    """What was given, with absolute paths."""
    for option in context.command.params:
        name = option.name or ""
        if name in OWN or context.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        assert isinstance(option, click.Option), name
        value = context.params[name]
        if option.is_flag:
            yield option.opts[0] if value else option.secondary_opts[0]
            continue
        for one in value if option.multiple else [value]:
            yield from (option.opts[0], _absolute(name, one))


def _absolute(name: str, value: Any) -> str:
    is_file = name == "source" and Path(value).is_file()  # a named config is none
    return str(Path(value).absolute()) if is_file or isinstance(value, Path) else str(value)


def _refuse_unseen(context: click.Context) -> None:
    from twinspire.jobs import refuse_unseen

    inputs: dict[str, Path] = {}
    outputs: dict[str, Path] = {}
    for option in context.command.params:
        value = context.params[option.name or ""]
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path):
                (outputs if option.name in OUTPUTS else inputs)[option.opts[0]] = path
    refuse_unseen(inputs, outputs)
