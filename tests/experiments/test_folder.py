"""A folder of experiments that changes: what is bad is refused with the reason, and what was there goes on."""

import pytest

from twinspire.errors import EnvironmentProblem
from twinspire.experiments.folder import ExperimentFolder

ONE = "name: one\nstatus: running\narms: [{name: a}, {name: b, parameters: {lexical: 0}}]\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one.yaml").write_text(ONE)
    return ExperimentFolder(tmp_path)


def test_a_bad_change_leaves_the_old_one(folder):
    before = folder.read({})
    assert (list(before.experiments), before.refused) == (["one.yaml"], {})
    stamp = folder.stamp
    (folder.path / "one.yaml").write_text(ONE + "colour: 1\n")
    assert folder.stamp != stamp
    after = folder.read(before.experiments)
    assert after.experiments == before.experiments
    assert "colour: no such key" in after.refused["one.yaml"]
    assert folder.read({}).experiments == {}
    (folder.path / "one.yaml").unlink()
    assert folder.read(before.experiments).experiments == {}


def test_of_two_that_clash_the_new_one_is_refused_whatever_their_names(folder):
    before = folder.read({})
    (folder.path / "aaa.yml").write_text(ONE.replace("name: one", "name: aaa"))
    (folder.path / ".hidden.yaml").write_text("nonsense: [")
    (folder.path / "notes.txt").write_text("not ours")
    after = folder.read(before.experiments)
    assert list(after.experiments) == ["one.yaml"]
    assert "one sets lexical too" in after.refused["aaa.yml"]
    again = folder.read(after.experiments)
    assert again == after


def test_a_change_that_clashes_goes_back_to_what_it_was(folder):
    (folder.path / "two.yaml").write_text(
        "name: two\nstatus: running\narms: [{name: a}, {name: b, parameters: {memory: 0}}]\n"
    )
    before = folder.read({})
    assert len(before.experiments) == 2
    (folder.path / "two.yaml").write_text(ONE.replace("name: one", "name: two"))
    after = folder.read(before.experiments)
    assert after.experiments == before.experiments
    assert "one sets lexical too" in after.refused["two.yaml"]


def test_a_folder_that_is_gone(folder):
    (folder.path / "one.yaml").unlink()
    folder.path.rmdir()
    assert folder.stamp == ()
    with pytest.raises(EnvironmentProblem, match="the experiments cannot be read"):
        folder.read({})
