import pytest
from click.testing import CliRunner

from twinspire.cli import bench, cli
from twinspire.errors import EnvironmentProblem


def test_the_benchmarks_are_listed_with_what_they_measure():
    told = CliRunner().invoke(cli, ["bench"])
    assert told.exit_code == 0
    lines = told.output.splitlines()
    assert {"filters", "over_http", "table2"} <= {line.split()[0] for line in lines}
    assert not {"report", "workspace"} & {line.split()[0] for line in lines}
    assert all(len(line.split()) > 2 and len(line) < 120 for line in lines)


def test_one_gets_its_own_options_and_its_exit_code_comes_back(capfd):
    told = CliRunner().invoke(cli, ["bench", "filters", "--help"])
    assert told.exit_code == 0
    assert "--queries" in capfd.readouterr().out
    assert CliRunner().invoke(cli, ["bench", "filters", "--no-such"]).exit_code == 2
    assert "--no-such" in capfd.readouterr().err


def test_an_unknown_one_is_told_what_there_is():
    told = CliRunner().invoke(cli, ["bench", "speed"])
    assert told.exit_code == 2
    assert "no benchmark 'speed'; there are " in told.output
    assert "over_http" in told.output


def test_without_the_source_tree_it_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    with pytest.raises(EnvironmentProblem, match="they come with the source tree"):
        CliRunner().invoke(cli, ["bench"], catch_exceptions=False)
