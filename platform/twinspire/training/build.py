"""Build a model for an encoded dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from twinspire.features.dictionaries import Dictionaries, token_weights
from twinspire.features.spec import History, Id
from twinspire.model import Architecture, FeatureSlot, TwoTower

if TYPE_CHECKING:
    from twinspire.model import ModelConfig

ATTRIBUTE_SCALE = 0.1  # row length of attribute tables at the start: text leads, what clicks teach follows


def architecture(dictionaries: Dictionaries, config: ModelConfig) -> Architecture:
    """Both towers' encoders and table sizes, from the resolved features."""
    features = dictionaries.config
    assert not isinstance(features.query, str)
    assert features.item != "auto"
    query = tuple(
        _slot(feature, "user" if feature.kind in ("category", "number") else "query") for feature in features.query
    )
    item = tuple(_slot(feature, "item") for feature in features.item)
    used = {slot.table for slot in query + item}
    tables = {name: rows for name, rows in dictionaries.table_sizes.items() if name in used}
    return Architecture(config=config, tables=tables, query=query, item=item)


def _slot(feature: object, side: str) -> FeatureSlot:
    dropout = feature.dropout if isinstance(feature, Id | History) else 0.0
    return FeatureSlot(feature=feature.name(side), table=feature.table(side), dropout=dropout)  # type: ignore[attr-defined]


def new_model(dictionaries: Dictionaries, config: ModelConfig, *, seed: int, sparse: bool) -> TwoTower:
    """A model at its start: token rows as long as the token says something, ids at zero."""
    torch.manual_seed(seed)
    scales: dict[str, torch.Tensor | float] = dict.fromkeys(dictionaries.table_sizes, ATTRIBUTE_SCALE)
    for stream, vocabulary in dictionaries.vocabularies.items():
        scales[stream] = torch.from_numpy(token_weights(vocabulary.counts)).float()
    scales["item.id"] = 0.0
    return TwoTower(architecture(dictionaries, config), scales=scales, sparse=sparse)
