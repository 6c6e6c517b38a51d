"""A marketplace with a known truth: catalogue, shoppers, queries, clicks and purchases, and what is behind them."""

from twinspire.simulation import truth
from twinspire.simulation.market_maker import Summary, simulate
from twinspire.simulation.truth import Truth

__all__ = ["Summary", "Truth", "simulate", "truth"]
