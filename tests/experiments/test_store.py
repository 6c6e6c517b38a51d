"""Starting and stopping: the file changes in one step, keeps its comments, and nothing unsound runs."""

from datetime import UTC, datetime

import pytest

from twinspire.errors import ExperimentError
from twinspire.experiments import store
from twinspire.experiments.folder import ExperimentFolder
from twinspire.experiments.spec import read_experiment

NOW = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
TEXT = """# our best idea
name: {name}
arms:
  - {{name: control}}
  - {{name: treatment, bundle: "models:/shop@challenger"}}  # the new one
status: draft  # set by twinspire
{more}
"""


def write(folder, name, more=""):
    (folder / f"{name}.yaml").write_text(TEXT.format(name=name, more=more))
    return folder / f"{name}.yaml"


def test_start_and_stop(tmp_path):
    path = write(tmp_path, "a")
    started = store.start(tmp_path, "a", now=NOW)
    assert (started.status, started.start) == ("running", NOW)
    text = path.read_text()
    assert "# our best idea" in text
    assert "status: running  # set by twinspire" in text
    store.stop(tmp_path, "a", "it won", now=NOW)
    assert read_experiment(path).status == "stopped"
    assert [one["action"] for one in store.decisions(tmp_path, "a")] == ["start", "stop"]
    assert store.decisions(tmp_path, "a")[1]["reason"] == "it won"
    assert {file.name for file in tmp_path.iterdir()} == {"a.yaml", store.DECISIONS}


def test_what_is_not_started(tmp_path):
    write(tmp_path, "a", "end: 2026-11-01T00:00:00Z")
    with pytest.raises(ExperimentError, match=r"a.yaml: end: 2026-11-01 00:00 is over"):
        store.start(tmp_path, "a", now=NOW)
    write(tmp_path, "b")
    store.start(tmp_path, "b", now=NOW)
    with pytest.raises(ExperimentError, match="running already"):
        store.start(tmp_path, "b", now=NOW)
    store.stop(tmp_path, "b", "")
    with pytest.raises(ExperimentError, match="was stopped; start a new one"):
        store.start(tmp_path, "b")
    with pytest.raises(ExperimentError, match="b is stopped, not running"):
        store.stop(tmp_path, "b", "")
    with pytest.raises(ExperimentError, match=r"no experiment 'c' in .*; there are a, b"):
        store.start(tmp_path, "c")
    with pytest.raises(ExperimentError, match="there is no such folder"):
        store.start(tmp_path / "none", "c")


def test_a_layer_has_room_for_one_whole(tmp_path):
    for name, share in (("a", 0.7), ("b", 0.4), ("c", 0.3)):
        write(tmp_path, name, f"layer: ranking\nshare: {share}")
    store.start(tmp_path, "a")
    before = (tmp_path / "b.yaml").read_text()
    with pytest.raises(ExperimentError, match=r"b.yaml: share: layer ranking has no room for 0.4 more"):
        store.start(tmp_path, "b")
    assert (tmp_path / "b.yaml").read_text() == before
    store.start(tmp_path, "c")


IN_LAYER = "layer: ranking\nshare: 0.6\n"


@pytest.mark.parametrize(
    ("there", "new", "starts"),
    [
        ("status: running", "", False),  # both set a bundle
        ("status: stopped", "", True),
        ("status: running\nend: 2026-12-01", "", True),
        ("status: running\nstart: 2026-12-20", "end: 2026-12-20", True),
        ("status: running\nstart: 2026-12-20", "end: 2026-12-21", False),
        (f"{IN_LAYER}status: running", "layer: ranking", False),
        (f"{IN_LAYER}status: running", "layer: ranking\nshare: 0.4\nunit: session", False),
        (f"{IN_LAYER}status: running", "layer: ranking\nshare: 0.4", True),
        (f"{IN_LAYER}status: running\nend: 2026-12-01", "layer: ranking", True),
        (f"{IN_LAYER}status: running\nstart: 2026-12-20", "layer: ranking\nend: 2026-12-20", True),
        (f"{IN_LAYER}status: stopped", "layer: ranking\nshare: 0.5", False),
        (f"{IN_LAYER}status: draft", "layer: ranking", True),
    ],
)
def test_what_starts_is_what_a_server_takes(tmp_path, there, new, starts):
    write(tmp_path, "there").write_text(TEXT.format(name="there", more=there).replace("status: draft", ""))
    path = write(tmp_path, "new", new)
    server = ExperimentFolder(tmp_path)
    before = server.read({})
    draft = path.read_text()
    if starts:
        store.start(tmp_path, "new", now=NOW)
    else:
        with pytest.raises(ExperimentError) as error:
            store.start(tmp_path, "new", now=NOW)
        assert path.read_text() == draft
        store.change(path, {"status": "running", "start": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"})
        assert server.read(before.experiments).refused["new.yaml"].endswith(str(error.value))
    assert ("new.yaml" in server.read(before.experiments).refused) != starts


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("wieght: 3", "wieght"),
        ("end: 2020-01-01\nstart: 2021-01-01", "end"),
        ("metrics: {primary: love}", "love"),
        ("share: 1.5", "share"),
        ("status: paused", "status"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, line, said):
    path = write(tmp_path, "a")
    path.write_text(path.read_text().replace("status: draft  # set by twinspire", "") + line)
    with pytest.raises(ExperimentError, match=said) as caught:
        store.start(tmp_path, "a")
    assert "\n" not in str(caught.value)


def test_one_of_several_arms_is_stopped(tmp_path):
    path = write(tmp_path, "a")
    text = path.read_text().replace("status:", '  - {name: third, bundle: "models:/shop/9"}\nstatus:')
    path.write_text(text)
    store.start(tmp_path, "a", now=NOW)
    store.stop_arm(tmp_path, "a", "treatment", "errors", now=NOW)
    after = read_experiment(path)
    assert after.status == "running"
    assert [arm.bundle for arm in after.arms] == [None, None, "models:/shop/9"]
    assert store.decisions(tmp_path, "a")[-1]["arm"] == "treatment"
