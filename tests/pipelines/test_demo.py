"""The demo as a newcomer runs it: everything answers, and Ctrl-C leaves nothing behind."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twinspire.processes import descendants

STARTS_WITHIN_S = 540
LAST_LINE = "Ctrl-C ends it all"


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "twinspire", "demo", "--dir", str(folder / "demo"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    """What it prints up to a line; killed when that line does not come in time."""
    lines: list[str] = []
    watchdog = threading.Timer(STARTS_WITHIN_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if last in line:
                return lines
    finally:
        watchdog.cancel()
    raise AssertionError(f"{last!r} never came:\n" + "\n".join(lines[-40:]))


def alive(processes: set[int]) -> set[int]:
    found = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_demo_answers_and_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output = "\n".join(lines_until(process, LAST_LINE))
        urls = re.findall(r"http://\S+", output.split("from nothing to answers")[1])
        assert len(urls) == 4  # web page, API, MLflow, Ray dashboard
        until = time.monotonic() + 60
        while not all(answers(url) for url in urls):
            assert time.monotonic() < until, f"one of {urls} does not answer"
            time.sleep(1)
        started = descendants(process.pid)
        assert started
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0
        until = time.monotonic() + 20
        while left := alive(started):
            assert time.monotonic() < until, f"still there: {left}"
            time.sleep(0.2)
        assert not any(answers(url) for url in urls)
        rows = [line for line in output.splitlines() if re.match(r"\s*(model|bm25)\s+[01]\.\d{3}", line)]
        assert len(rows) >= 2  # the table of the model against BM25


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_demo_can_end_by_itself(tmp_path: Path) -> None:
    with demo(tmp_path, "--no-wait") as process:
        lines = lines_until(process, "from nothing to answers in")
        assert process.wait(90) == 0
        assert any("clicked last" in line for line in lines)
