import json

import polars as pl
import pytest
from click.testing import CliRunner

from twinspire.cli import main
from twinspire.cli.validate import command


def make(folder, titles):
    folder.mkdir()
    ids = [f"item {i}" for i in range(len(titles))]
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    return folder


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["twinspire", "validate", *map(str, arguments)])
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_good_dataset(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "shop", ["Ale", "Bread"])
    assert run(monkeypatch, "--data", folder, "--json", tmp_path / "out" / "report.json") == 0
    printed = capsys.readouterr().out
    assert "items" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tables"]["items"]["rows"] == 2
    assert report["fingerprint"] in printed.replace("\n", "")


def test_too_many_bad_rows_print_the_report_and_one_line(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "shop", ["Ale", ""])
    options = ("--quarantine", tmp_path / "bad", "--json", tmp_path / "report.json")
    assert run(monkeypatch, "--data", folder, *options) == 2
    printed = capsys.readouterr()
    assert "blank title" in printed.out
    assert printed.err.strip().splitlines()[-1].startswith("error: items: 1 of 2 rows")
    assert json.loads((tmp_path / "report.json").read_text())["tables"]["items"]["reasons"] == {"blank title": 1}
    assert pl.read_parquet(tmp_path / "bad" / "items.parquet")["row"].to_list() == [1]
    assert run(monkeypatch, "--data", folder, *options, "--max-bad-share", 0.5) == 0


@pytest.mark.parametrize("options", [["--max-bad-share", "2"], ["--require-interactions"], []])
def test_bad_input_ends_with_2(tmp_path, monkeypatch, options):
    data = make(tmp_path / "shop", ["Ale"]) if options else tmp_path / "nowhere"
    assert run(monkeypatch, "--data", data, *options) == 2


def test_a_report_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "shop", ["Ale"])
    assert run(monkeypatch, "--data", folder, "--json", folder) == 2
    assert "error: --json: cannot write" in capsys.readouterr().err


def test_help_ends_in_examples():
    text = CliRunner().invoke(command, ["--help"]).output
    assert "twinspire validate --data shop/" in text.split("Examples:")[1]
