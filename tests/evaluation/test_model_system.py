import numpy as np
import torch
from rich_shop import Rich

from twinspire import dataset
from twinspire.evaluation import cases
from twinspire.evaluation.model_system import ModelSystem
from twinspire.model import best_head, to_bags


def test_every_case_is_scored_as_the_row_was_trained(rich: Rich) -> None:
    """The answer at the time of the search: nothing from then on, and no event's kind or time, is lost or added."""
    positives, store = rich.positives, rich.encoded.store
    system = ModelSystem(rich.bundle, positives, dataset.read(rich.data).users)
    scores = system.scores(cases(positives))
    features = to_bags(store.query_features(positives.query, positives.user, positives.stop))
    with torch.inference_mode():
        heads = rich.bundle.model.queries(features)
        expected = best_head(heads, torch.from_numpy(np.array(rich.bundle.item_vectors))).numpy()
    np.testing.assert_allclose(scores, expected, atol=2e-6)
