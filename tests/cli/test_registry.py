"""`twinspire registry` from end to end."""

import pytest
from click.testing import CliRunner

from twinspire.cli import cli, main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda *arguments: CliRunner().invoke(cli, ["registry", *map(str, arguments)], catch_exceptions=False)


def test_register_list_show(run, tiny_bundle, tmp_path):
    registered = run("register", "--bundle", tiny_bundle, "--name", "shop", "--alias", "champion")
    assert registered.stdout == "models:/shop/1, alias champion\n"
    assert (tmp_path / "mlflow.db").is_file()
    assert [path.name for path in (tmp_path / "mlartifacts").iterdir()]
    listed = run("list").stdout
    assert "shop" in listed
    assert "champion" in listed
    shown = run("show", "shop@champion").stdout
    assert "dataset fingerprint" in shown
    assert "validation/best_mrr" in shown


def test_a_mistake_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("sys.argv", ["twinspire", "registry", "list"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: no MLflow database")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["", "register", "list", "show", "promote", "rollback", "history", "diff"])
def test_help_ends_in_examples(run, command):
    text = run(*command.split(), "--help").stdout
    assert "twinspire registry" in text.split("Examples:")[1]
