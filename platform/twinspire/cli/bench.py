"""`twinspire bench`: the commands behind the figures of the README."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import click

import twinspire
from twinspire.errors import EnvironmentProblem

ROOT = Path(twinspire.__file__).parents[2]
EXAMPLES = """\b
Examples:
  twinspire bench
  twinspire bench filters --help
  twinspire bench over_http --rounds 1
"""


@click.command(epilog=EXAMPLES, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(name: str | None, arguments: tuple[str, ...]) -> None:
    """Run a benchmark, with its own options; without a name, list them.

    Benchmarks come with the source tree and write benchmarks/results/NAME.json there, with the machine's description.
    """
    known = _benchmarks()
    if not known:
        raise EnvironmentProblem(f"{ROOT}: no benchmarks there; they come with the source tree, not with the package")
    if name is None:
        width = max(map(len, known))
        click.echo("\n".join(f"{one:{width}}  {_about(path)}" for one, path in known.items()))
        return
    if name not in known:
        raise click.UsageError(f"no benchmark {name!r}; there are {', '.join(known)}")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    click.get_current_context().exit(ran.returncode)


def _benchmarks() -> dict[str, Path]:
    """The modules that can be run, by name: files and packages of the folder."""
    folder = ROOT / "benchmarks"
    found = {path.stem: path for path in folder.glob("*.py") if '"__main__"' in path.read_text()}
    return dict(sorted((found | {path.parent.name: path for path in folder.glob("*/__main__.py")}).items()))


def _about(path: Path) -> str:
    """What a module says first of itself."""
    told = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(re.split(r":\s|`", told)[0].split())
