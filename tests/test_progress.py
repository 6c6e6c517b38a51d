"""Progress where there is no terminal: lines from time to time, and the end."""

import io

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn

from twinspire import progress


@pytest.fixture
def shown():
    """Runs ten steps and gives the lines that were printed."""

    def run(**options):
        console = Console(file=io.StringIO(), force_terminal=False, width=60)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        with progress.Progress(*columns, console=console, **options) as bar:
            task = bar.add_task("train", total=10, note="")
            for step in range(9):
                bar.update(task, completed=step, note=f"round {step}")
                bar.advance(task)
        return [line for line in console.file.getvalue().splitlines() if line.strip()]

    return run


def test_a_log_gets_a_line_from_time_to_time(shown, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0)
    lines = shown()
    assert all(line.startswith("train") for line in lines)
    assert [f"round {step}" in "".join(lines) for step in range(9)] == [True] * 9


def test_short_work_says_nothing_before_its_end(shown):
    (line,) = shown()
    assert line.endswith("round 8")


def test_what_is_switched_off_says_nothing(shown, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0)
    assert shown(disable=True) == []
