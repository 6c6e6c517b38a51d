"""Checkpoints: whole or absent, the newest kept, one owner."""

import pytest
import torch

from twinspire.training.checkpoints import Checkpoints, Progress, read_progress, read_state, read_weights


def test_the_newest_checkpoint_takes_the_place_of_those_before(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.newest() is None
    checkpoints.own("a")
    for round_ in range(12):
        checkpoints.save("a", Progress(round=round_, history=[{"round": 1, "x": 0.5}]), {"x": torch.full((2,), round_)})
        newest = checkpoints.newest()
        assert read_progress(newest) == Progress(round=round_, history=[{"round": 1, "x": 0.5}])
        assert read_state(newest)["x"].tolist() == [round_, round_]
        assert {path.name for path in checkpoints.folder.iterdir()} == {"owner", newest.name}
    checkpoints.finish("a", Progress(phase="done"), {"weight": torch.eye(2)}, {"weight": torch.zeros(2)})
    assert torch.equal(read_weights(checkpoints.newest())["weight"], torch.eye(2))


def test_what_was_not_finished_does_not_count_and_goes(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.own("a")
    checkpoints.save("a", Progress(round=1), {})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            checkpoints.save("a", Progress(round=2), {})
    assert read_progress(checkpoints.newest()).round == 1
    checkpoints.own("b")
    checkpoints.save("b", Progress(round=3), {})
    assert {path.name for path in tmp_path.iterdir()} == {"owner", checkpoints.newest().name}


def test_a_training_that_was_taken_over_writes_no_more(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.own("a")
    checkpoints.save("a", Progress(round=1), {})
    checkpoints.own("b")
    with pytest.raises(RuntimeError, match="taken this training over"):
        checkpoints.save("a", Progress(round=2), {})
    assert read_progress(checkpoints.newest()).round == 1
