"""The command line. Each command is a module of this package with the click command named `command`."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from twinspire import __version__
from twinspire.cli.submit import submittable
from twinspire.cluster import quiet_environment
from twinspire.errors import TwinspireError

COMMANDS = {
    "demo": "Simulate a market, train, prove, serve: the whole job in minutes.",
    "simulate": "Make a marketplace with a known truth: catalogue, shoppers, click log.",
    "validate": "Check a dataset against the table contract.",
    "fit": "Train on a dataset and write a bundle.",
    "retrain": "The daily loop: fit, judge against the champion, promote or refuse.",
    "evaluate": "Compare a bundle with its baselines on later clicks and judgements.",
    "heads": "Show which head of the query tower finds what.",
    "figures": "Draw a bundle's items by category and its heads' results.",
    "search": "Answer a table of queries from a bundle.",
    "score": "Score a table of query-item pairs with a bundle.",
    "serve": "Serve a bundle over HTTP.",
    "events": "Count what servers have kept, and recover what killed ones left.",
    "registry": "Register, compare, promote and roll back bundles with MLflow.",
    "experiment": "Plan, start, stop and judge A/B tests.",
    "bench": "Run the benchmarks behind the README's figures.",
}
# Those that are modules of `pipelines` too, and can run as Ray jobs.
PIPELINES = ("fit", "retrain", "evaluate", "figures", "heads")


class _LazyGroup(click.Group):
    """Imports a command's module only when it is called, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"twinspire.cli.{cmd_name}").command
        return submittable(command, cmd_name) if cmd_name in PIPELINES else command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


# What the place that is written to says no with; other system errors are defects of ours.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG)
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@click.command(cls=_LazyGroup, context_settings=HELP)
@click.version_option(__version__, prog_name="twinspire")
def cli() -> None:
    """Personalised semantic retrieval for e-commerce search.

    From a click log and a catalogue to an HTTP endpoint that answers a query, for this shopper, with the K best
    items. Start with `twinspire demo`.
    """


def main(pipeline: str | None = None) -> None:
    """Run the command line; a user's mistake ends with one line on stderr and exit code 2.

    With `pipeline`, that command alone: what `python -m pipelines.NAME` does.
    """
    quiet_environment()
    try:
        # What comes back is the code of ctx.exit, or what the command returned: none of them returns anything.
        if pipeline is None:
            code = cli(standalone_mode=False)
        else:
            command = cli.get_command(click.Context(cli), pipeline)
            assert command is not None, pipeline
            code = command.main(prog_name=f"python -m pipelines.{pipeline}", standalone_mode=False, **HELP)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except TwinspireError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror}", err=True)
        sys.exit(2)
    else:
        if code:
            sys.exit(code)
