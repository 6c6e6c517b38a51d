import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinspire.cli import cli
from twinspire.errors import BundleError, ConfigError, DatasetError, EnvironmentProblem, TwinspireError


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        (["--set", "index.factory=nonsense"], ConfigError, "index.factory"),
        (["--set", "index.factory=PQ7"], ConfigError, "index.factory"),
        (["--set", "features.query=[{kind: category, column: shoe_size}]"], ConfigError, "shoe_size"),
        (["--set", "log.until=1999-01-01T00:00:00Z"], DatasetError, "before 1999-01-01"),
        (["--config", "no-such"], ConfigError, "dpsr-paper"),
        (["--data", "/nowhere"], DatasetError, "/nowhere"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_any_work(
    tiny_dataset: Path, tmp_path: Path, settings: list[str], kind: type[TwinspireError], says: str
) -> None:
    """In one line, without Ray or MLflow having been started, and nothing is left behind."""
    out = tmp_path / "bundle"
    result = CliRunner().invoke(cli, ["fit", "--data", str(tiny_dataset), "--out", str(out), *settings])
    assert isinstance(result.exception, kind), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_sharded_tables_without_the_extra_are_refused_before_any_work(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)  # where it is installed it cannot be imported now
    target = ["--data", str(tiny_dataset), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(cli, ["fit", *target, "--set", "training.tables=sharded"])
    assert isinstance(result.exception, EnvironmentProblem), result.exception
    assert "twinspire[gpu-sharded]" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_no_bundle_is_refused_before_training(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(cli, ["fit", "--data", str(tiny_dataset), "--out", str(tmp_path)])
    assert isinstance(result.exception, BundleError)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
