"""The command line as a user meets it: a process of its own in a folder of its own, on two cores, with a time limit."""

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

CORES = 2
LIMITED = f"""
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{CORES}])
from twinspire.cli import main
main()
"""
WITHIN_S = 300  # ten times what the longest command needs on two free cores
GONE_WITHIN_S = 60  # what a killed driver leaves of Ray gives up after 20 seconds without it


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `twinspire` in `folder`, where MLflow's store then lies, and knows every process that a command started."""

    def __init__(self, folder: Path):
        self.folder, self.mark = folder, f"TWINSPIRE_TEST={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        outside = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        self.environment = {key: text for key, text in os.environ.items() if key not in outside} | {
            name: value,
            "TWINSPIRE_CACHE": str(folder.with_name(f"{folder.name}-cache")),
        }

    def start(self, *arguments) -> subprocess.Popen:
        """Start a command; its output goes to out.txt and err.txt beside the folder."""
        with self._output("out").open("w") as out, self._output("err").open("w") as err:
            return subprocess.Popen(
                [sys.executable, "-c", LIMITED, *map(str, arguments)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, process: subprocess.Popen, within: float = WITHIN_S) -> Finished:
        """How a command ends; the test fails with what it said last where it does not end in time."""
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            self.end_all()
            said = self._output("err").read_text()[-2000:]
            pytest.fail(f"{' '.join(process.args[3:])}: did not end within {within} s on {CORES} cores: {said}")
        return Finished(code, self._output("out").read_text(), self._output("err").read_text())

    def __call__(self, *arguments) -> Finished:
        """Run a command to its end."""
        return self.wait(self.start(*arguments))

    def left_running(self) -> list[str]:
        """Command lines of processes that outlive the commands; they are given some seconds to go."""
        until = time.monotonic() + GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.2)
        return list(left.values())

    def end_all(self) -> None:
        """Kill whatever the commands started."""
        for process in self.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _output(self, name: str) -> Path:
        return self.folder.parent / f"{self.folder.name}.{name}.txt"

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of what the commands started and still runs."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
        return {process: line for process, line in found.items() if line}


def refused(line, data, *settings, options=()):
    """The lines that fit says when it refuses; nothing else has changed."""
    before = set(line.folder.iterdir())
    settings = [part for setting in settings for part in ("--set", setting)]
    ended = line("fit", "--data", data, "--out", line.folder / "bundle", *settings, *options)
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    errors = [text for text in ended.err.splitlines() if text.strip()]
    assert errors[-1].startswith("error: ")
    assert {path.name for path in set(line.folder.iterdir()) - before} <= {"mlflow.db", "mlartifacts"}
    assert line.left_running() == []
    return errors
