"""The two-tower model (paper, 4.1-4.3). Pure torch: no Ray, no MLflow, no files."""

from twinspire.model.bags import Bag, Features, to_bags
from twinspire.model.lookup import DeviceLookup, QueryLookup
from twinspire.model.losses import LossConfig, hinge_loss, log_expected_count, negative_mask, softmax_loss
from twinspire.model.scoring import best_head, head_imbalance, soft_dot_product
from twinspire.model.towers import Architecture, FeatureSlot, ModelConfig, TwoTower

__all__ = [
    "Architecture",
    "Bag",
    "DeviceLookup",
    "FeatureSlot",
    "Features",
    "LossConfig",
    "ModelConfig",
    "QueryLookup",
    "TwoTower",
    "best_head",
    "head_imbalance",
    "hinge_loss",
    "log_expected_count",
    "negative_mask",
    "soft_dot_product",
    "softmax_loss",
    "to_bags",
]
