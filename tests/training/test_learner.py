from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from twinspire import dataset
from twinspire.config import Config, load_config
from twinspire.evaluation.heads import measure_heads
from twinspire.features.encode import Encoded, encode
from twinspire.model import best_head
from twinspire.training.batches import Columns, shuffled_with_negatives, split
from twinspire.training.build import new_model
from twinspire.training.learner import Learner
from twinspire.training.validation import item_vectors, query_vectors, validate

SMALL = ("model.dim=16", "model.hidden=16", "negatives.count=32", "training.batch_size=32")


@pytest.fixture(scope="module", autouse=True)
def _sparse_tensors_are_not_checked() -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()  # as the worker has it; torch warns where nothing is said


@pytest.fixture(scope="module")
def encoded(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    config = Config()
    folder = tmp_path_factory.mktemp("learner") / "encoded"
    return encode(dataset.read(tiny_dataset), config.features, config.log, config.text, folder, seed=0)[0]


def some_batches(encoded: Encoded, config: Config, count: int, seed: int = 0) -> list[Columns]:
    frame = pl.read_parquet(encoded.folder / "rows" / "training" / "*.parquet")
    rows = {name: frame[name].to_numpy() for name in frame.columns}
    rng, size, found = np.random.default_rng(seed), config.training.batch_size, []
    while len(found) < count:
        found += split(shuffled_with_negatives(rows, config.negatives, size, encoded.store.n_items, rng), size)
    return found[:count]


def learner(encoded: Encoded, config: Config, steps: int, *, sparse: bool = True) -> Learner:
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=sparse)
    return Learner(model, encoded.store, encoded.clicks("training"), config, steps)


@pytest.mark.parametrize("kind", ["softmax", "hinge"])
@pytest.mark.parametrize("more", [(), ("model.heads=2", "model.skip=false")])
def test_training_lowers_the_loss_and_lifts_validation(encoded: Encoded, kind: str, more: tuple[str, ...]) -> None:
    config = load_config(None, (*SMALL, f"loss.kind={kind}", "training.learning_rate=0.05", *more))
    batches = some_batches(encoded, config, 150)
    subject = learner(encoded, config, len(batches))
    before = validate(subject.model, encoded.store, encoded.validation, 0)
    losses = [float(subject.step(batch)) for batch in batches]
    after = validate(subject.model, encoded.store, encoded.validation, 0)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    assert after.mrr > before.mrr + 0.1
    assert subject.model.training, "validation leaves the model as it was"


def test_every_head_keeps_its_share_of_the_results(encoded: Encoded) -> None:
    """Without the balance one head of these two is nearly lost within some hundred steps."""
    shares = {}
    for balance in (0.0, 0.3):
        config = load_config(None, (*SMALL, "model.heads=2", f"loss.head_balance={balance}"))
        batches = some_batches(encoded, config, 200)
        subject = learner(encoded, config, len(batches))
        for batch in batches:
            subject.step(batch)
        subject.model.eval()
        items = item_vectors(subject.model, encoded.store, np.arange(encoded.store.n_items)).numpy()
        shares[balance] = min(measure_heads(query_vectors(subject.model, encoded, 200), items).share)
    assert shares[0.3] > 0.25
    assert shares[0.3] > shares[0.0]


def test_an_untrained_model_with_a_skip_ranks_by_shared_words(encoded: Encoded) -> None:
    config = load_config(None, ("model.dim=64",))
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=False).eval()
    store = encoded.store
    with torch.inference_mode():
        found = validate(model, store, encoded.validation, 0)
        no_skip = new_model(encoded.dictionaries, load_config(None, ("model.skip=false",)).model, seed=0, sparse=False)
        blind = validate(no_skip.eval(), store, encoded.validation, 0)
    assert found.hit_at_10 > 0.75, "four or twenty of 120 items have the words of the query"
    assert found.hit_at_10 > blind.hit_at_10 + 0.3


@pytest.mark.parametrize("sparse", [True, False])
def test_the_same_start_and_batches_give_the_same_model(encoded: Encoded, sparse: bool) -> None:
    config = load_config(None, SMALL)
    weights = []
    for other in (True, sparse):
        subject = learner(encoded, config, 5, sparse=other)
        torch.manual_seed(0)
        for batch in some_batches(encoded, config, 5):
            subject.step(batch)
        weights.append(subject.model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_step_is_that_of_the_plain_loop(encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders' own look-ups, `EmbeddingBag(sparse=True)`, and torch's Adagrad, with the same dropout."""
    config = load_config(None, SMALL)
    losses, weights = [], []
    for plain in (False, True):
        subject = learner(encoded, config, 5)
        if plain:
            monkeypatch.setattr(subject.model, "_projects_at_once", lambda: False)
            subject.optimiser = torch.optim.Adagrad(subject.model.parameters(), lr=config.training.learning_rate)
            rates = subject.schedule.lr_lambdas[0]
            subject.schedule = torch.optim.lr_scheduler.LambdaLR(subject.optimiser, rates)
        torch.manual_seed(0)
        losses.append([float(subject.step(batch)) for batch in some_batches(encoded, config, 5)])
        weights.append(subject.model.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, atol=1e-4, rtol=1e-4, msg=name)


def test_the_rate_falls_to_zero_or_stays(encoded: Encoded) -> None:
    for schedule, last in (("linear", 0.0), ("constant", 0.01)):
        config = load_config(None, (*SMALL, f"training.schedule={schedule}", "training.learning_rate=0.01"))
        subject = learner(encoded, config, 4)
        for batch in some_batches(encoded, config, 4):
            subject.step(batch)
        assert subject.schedule.get_last_lr()[0] == pytest.approx(last)


def test_row_zero_and_untouched_ids_stay_as_they_are(encoded: Encoded) -> None:
    config = load_config(None, SMALL)
    subject = learner(encoded, config, 3)
    table = subject.model.tables["words"].weight
    start = table[0].detach().clone()
    for batch in some_batches(encoded, config, 3):
        subject.step(batch)
    torch.testing.assert_close(table[0], start, rtol=0, atol=0)


def test_validation_ranks_are_brute_force_ranks(encoded: Encoded) -> None:
    config, store, window = load_config(None, (*SMALL, "model.heads=2")), encoded.store, encoded.validation
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=False).eval()
    found = validate(model, store, window, 0)
    everything = item_vectors(model, store, np.arange(store.n_items))
    queries = torch.from_numpy(query_vectors(model, encoded, len(window)))
    scores = best_head(queries, everything).numpy()
    ranks = [1 + sum(s > row[i] for s in row) for row, i in zip(scores, window["item"].to_list(), strict=True)]
    assert found.mrr == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found.hit_at_1 == pytest.approx(np.mean([rank <= 1 for rank in ranks]))
    assert found.hit_at_10 == pytest.approx(np.mean([rank <= 10 for rank in ranks]))


def test_a_large_catalogue_is_ranked_among_a_sample_with_every_wanted_item(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, SMALL)
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=False).eval()
    full = validate(model, encoded.store, encoded.validation, 0)
    monkeypatch.setattr("twinspire.training.validation.MAX_ITEMS", 10)
    sampled = validate(model, encoded.store, encoded.validation.head(5), 0)
    assert sampled == validate(model, encoded.store, encoded.validation.head(5), 0)
    assert sampled.mrr > full.mrr, "fewer rivals"


def test_a_model_that_gives_nan_is_the_worst_not_the_best(encoded: Encoded) -> None:
    model = new_model(encoded.dictionaries, load_config(None, SMALL).model, seed=0, sparse=False).eval()
    with torch.no_grad():
        model.query_tower.head_bias.fill_(float("nan"))
    assert validate(model, encoded.store, encoded.validation, 0).hit_at_10 == 0


def test_an_empty_window_is_zero(encoded: Encoded) -> None:
    model = new_model(encoded.dictionaries, load_config(None, SMALL).model, seed=0, sparse=False).eval()
    assert validate(model, encoded.store, encoded.validation.head(0), 0) == (0.0, 0.0, 0.0)
    assert query_vectors(model, encoded, 0).shape == (0, 1, 16)
