"""The end of an experiment against a real registry: the winner passes its gates and is champion, or nothing changes."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from edited import edit_manifest
from safetensors.torch import load_file, save_file

from twinspire import registry
from twinspire.bundle import Bundle, Manifest
from twinspire.bundle.canaries import write_canaries
from twinspire.bundle.manifest import checksums
from twinspire.cli import main
from twinspire.experiments import store as experiments
from twinspire.experiments.spec import read_experiment
from twinspire.mlflow_client import connect
from twinspire.registry import claims
from twinspire.simulation.traffic import Traffic, write_events

pytestmark = pytest.mark.slow
WEIGHTS = "model.safetensors"
START = datetime(2026, 11, 2, tzinfo=UTC)
DECLARED = """name: new-vs-old
arms:
  - {name: old}
  - {name: new, bundle: "models:/shop@challenger"}
start: 2026-11-02T00:00:00Z
status: running  # set by twinspire
"""


def write_traffic(folder, *bundles):
    """Shoppers of `new` buy nearly twice as much."""
    versions = tuple(Manifest.read(bundle).version for bundle in bundles)
    traffic = Traffic(units=3000, days=3, days_before=0, visits_a_day=0.5, arms=("old", "new"), lift=0.9, buy=0.15)
    write_events(folder, "new-vs-old", START, replace(traffic, versions=versions))


@pytest.fixture(scope="module")
def lost_week(plain_week):
    """A bundle whose query tower knows nothing."""
    folder = plain_week.with_name("lost_week")
    shutil.copytree(plain_week, folder)
    generator = torch.Generator().manual_seed(0)
    weights = load_file(folder / WEIGHTS)
    save_file({name: torch.randn(one.shape, generator=generator) for name, one in weights.items()}, folder / WEIGHTS)
    edit_manifest(folder, name="lost_week", files=checksums(folder))
    write_canaries(Bundle.load(folder), folder)
    edit_manifest(folder, files=checksums(folder))
    return folder


@pytest.fixture
def stop(store, tmp_path, tiny_dataset, monkeypatch, capsys):
    """`stop --promote`: its exit code and what it says."""

    def run(champion, challenger, ran=None):
        write_traffic(tmp_path / "events", champion, ran or challenger)
        registry.register(champion, "shop", alias="champion")
        registry.register(challenger, "shop", alias="challenger")
        folder = tmp_path / "experiments"
        folder.mkdir()
        (folder / "new-vs-old.yaml").write_text(DECLARED)
        return again(folder)

    def again(folder):
        options = {"--experiments": folder, "--events": tmp_path / "events", "--data": tiny_dataset}
        given = [str(word) for option in options.items() for word in option]
        monkeypatch.setattr("sys.argv", ["twinspire", "experiment", "stop", "new-vs-old", "--promote", *given])
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            return ended.code, capsys.readouterr().err.rpartition("error: ")[2].strip(), folder
        return 0, capsys.readouterr().out.strip(), folder

    run.again = again
    return run


def there():
    return claims.aliases(connect(None), "shop")


def test_the_winner_becomes_champion_and_the_experiment_ends(stop, lost_week, hybrid_week):
    code, said, folder = stop(lost_week, hybrid_week)
    ended = "new-vs-old is stopped; all who are in it get its control, old: the server's bundle"
    assert (code, said.splitlines()) == (0, ["models:/shop/2 is the champion", ended])
    assert there() == {"champion": 2, "previous": 1, "challenger": 2}
    assert registry.show("shop@champion").version.tags["decision"] == "passed"
    assert read_experiment(folder / "new-vs-old.yaml").status == "stopped"
    assert [(one["action"], one["reason"]) for one in experiments.decisions(folder, "new-vs-old")] == [
        ("stop", "models:/shop/2 promoted")
    ]
    code, said, _ = stop.again(folder)
    assert (code, said) == (2, "new-vs-old.yaml: status: new-vs-old is stopped, not running")


def test_a_gate_that_refuses_leaves_everything_as_it_was(stop, lost_week, hybrid_week):
    code, said, folder = stop(hybrid_week, lost_week)
    assert code == 2
    assert said.startswith("models:/shop/2 is refused: gain mrr: mrr -0.")
    assert len(said.splitlines()) == 1
    assert there() == {"champion": 1, "challenger": 2}
    assert registry.show("shop/2").version.tags["decision"] == "refused"
    assert read_experiment(folder / "new-vs-old.yaml").status == "running"
    assert experiments.decisions(folder, "new-vs-old") == []


def test_a_bundle_that_no_shopper_has_seen_is_not_promoted(stop, lost_week, hybrid_week, tmp_path):
    """The alias was moved while the experiment ran, and the server had not followed yet."""
    shutil.copytree(hybrid_week, tmp_path / "newer")
    edit_manifest(tmp_path / "newer", version="newer")
    code, said, folder = stop(lost_week, tmp_path / "newer", ran=hybrid_week)
    assert code == 2
    ran = Manifest.read(hybrid_week).version
    assert said == (
        f"arm new was answered by bundle {ran}, but models:/shop@challenger is bundle newer now (models:/shop/2); "
        "promote the version that ran, by `twinspire registry promote`"
    )
    assert there() == {"champion": 1, "challenger": 2}
    assert read_experiment(folder / "new-vs-old.yaml").status == "running"
