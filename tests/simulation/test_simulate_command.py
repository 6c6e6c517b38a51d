"""`twinspire simulate` as a user meets it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from twinspire.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["twinspire", "simulate", *arguments])
    main()


def test_it_says_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "market"
    run(monkeypatch, "--items", "400", "--users", "50", "--interactions", "2000", "--out", str(out))
    said = capsys.readouterr().out
    assert "2,000 interactions" in said
    assert "distinct" in said
    assert "no word in common" in said
    made = {path.name for path in out.iterdir()}
    assert made == {"items.parquet", "users.parquet", "interactions", "judgements.parquet", "truth"}


def test_bad_arguments_end_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "--items", "2", "--out", str(tmp_path / "market"))
    assert end.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: items is 2")
