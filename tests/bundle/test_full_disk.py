"""A bundle for which there is no space: one clear line, the old one stays, nothing half-written."""

import shutil
from pathlib import Path

import pytest
import tiny_shop
from full_disk import no_file_beyond

import twinspire.bundle
from twinspire.bundle import Bundle
from twinspire.bundle.manifest import checksums
from twinspire.errors import EnvironmentProblem


@pytest.fixture
def rewrite(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch):
    """Fits the tiny shop again, with this much space for each file of the bundle."""
    written = twinspire.bundle.write_bundle

    def fit(target: Path, space: int) -> None:
        def limited(parts, out):
            with no_file_beyond(space):
                return written(parts, out)

        monkeypatch.setattr(twinspire.bundle, "write_bundle", limited)
        tiny_shop.fit_without_ray(tiny_dataset, target, lexical=0.3, memory=0.5)

    return fit


def sizes(bundle: Path) -> list[int]:
    return sorted(path.stat().st_size for path in bundle.rglob("*") if path.is_file())


def test_wherever_the_space_ends(rewrite, hybrid_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    shutil.copytree(hybrid_bundle, target)
    before = checksums(target)
    every = sizes(hybrid_bundle)
    for space in (10, every[len(every) // 2] - 1, every[-2] - 1, every[-1] - 1):
        with pytest.raises(EnvironmentProblem, match="no space for it; nothing of it is left") as error:
            rewrite(target, space)
        assert "\n" not in str(error.value)
        assert checksums(target) == before
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    rewrite(target, every[-1] + 1)
    Bundle.load(target)
