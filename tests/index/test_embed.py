"""Embedding by parts: without Ray where one actor's work is enough, with it once."""

from pathlib import Path

import numpy as np
import pytest
from rich_shop import Rich

from twinspire import cluster
from twinspire.index import embed
from twinspire.index.config import IndexConfig
from twinspire.index.embed import PARTS, VECTORS, EmbedItems, embed_catalogue


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ray Data's part done in this process; the numbers of the parts that were embedded."""
    embedded: list[int] = []

    class Data:
        def __init__(self, rows: list[dict[str, int]]) -> None:
            self.rows = rows

        def map_batches(self, actor: type, fn_constructor_args: tuple[str, ...], **_: object) -> "Data":
            self.work = actor(*fn_constructor_args)
            return self

        def iter_batches(self, **_: object):
            for row in self.rows:
                embedded.append(row["part"])
                yield self.work({name: np.array([value]) for name, value in row.items()})

    monkeypatch.setattr(embed.ray.data, "from_items", lambda rows, **_: Data(rows))
    monkeypatch.setattr(embed, "BATCH_ROWS", 10)
    return embedded


def embedded(rich: Rich, folder: Path, actors: int = 1) -> np.ndarray:
    model, architecture = rich.bundle.model, rich.bundle.manifest.architecture
    return embed_catalogue(model, architecture, rich.encoded.folder / "store", IndexConfig(actors=actors), folder)


def test_the_parts_make_up_the_catalogue(rich: Rich, tmp_path: Path, by_hand: list[int]) -> None:
    vectors = embedded(rich, tmp_path / "work")
    np.testing.assert_allclose(vectors, rich.bundle.item_vectors, atol=1e-6)
    assert vectors.dtype == np.float32
    assert by_hand == [0, 1, 2, 3]
    assert not (tmp_path / "work" / PARTS).exists()
    assert not vectors.flags.writeable


def test_a_killed_embedding_goes_on_with_what_is_missing(
    rich: Rich, tmp_path: Path, by_hand: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        patch.setattr(embed, "_assemble", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            embedded(rich, work)
    (work / PARTS / "part-00001.npy").rename(work / PARTS / "part-00001.new")  # half written
    by_hand.clear()
    vectors = embedded(rich, work)
    assert by_hand == [1]
    np.testing.assert_allclose(vectors, rich.bundle.item_vectors, atol=1e-6)
    by_hand.clear()
    embedded(rich, work)
    assert by_hand == []


def test_vectors_of_another_model_are_thrown_away(rich: Rich, tmp_path: Path, by_hand: list[int]) -> None:
    work = tmp_path / "work"
    embedded(rich, work)
    (work / embed.WEIGHTS).write_bytes(b"another's")
    (work / "filled.faiss").write_bytes(b"another's")
    by_hand.clear()
    embedded(rich, work)
    assert by_hand == [0, 1, 2, 3]
    assert {path.name for path in work.iterdir()} == {VECTORS, embed.WEIGHTS}


@pytest.mark.ray
def test_actors_embed_the_catalogue(rich: Rich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "BATCH_ROWS", 10)  # several parts; the actors have their own
    with cluster.session(workers=2):
        np.testing.assert_allclose(embedded(rich, tmp_path, actors=2), rich.bundle.item_vectors, atol=1e-6)


def test_an_actor_writes_whole_parts_only(rich: Rich, tmp_path: Path, by_hand: list[int]) -> None:
    embed._begin(rich.bundle.model, tmp_path / "work")
    architecture = rich.bundle.manifest.architecture.model_dump_json()
    work = EmbedItems(str(rich.encoded.folder / "store"), str(tmp_path / "work"), architecture)
    done = work({name: np.array([value]) for name, value in {"part": 7, "first": 3, "stop": 30}.items()})
    assert done["rows"].tolist() == [27]
    assert [path.name for path in (tmp_path / "work" / PARTS).iterdir()] == ["part-00007.npy"]
    np.testing.assert_allclose(
        np.load(tmp_path / "work" / PARTS / "part-00007.npy"), rich.bundle.item_vectors[3:30], atol=1e-6
    )
