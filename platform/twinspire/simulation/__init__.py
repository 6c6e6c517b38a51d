"""A marketplace with a known truth: catalogue, shoppers, queries, clicks and purchases, and what is behind them.

`simulate` writes a dataset; `truth.load` reads back what is true of it; `draw_requests` and `act` let the same shoppers
come again and act on other results.
"""

from twinspire.simulation import truth
from twinspire.simulation.behaviour import Actions, act
from twinspire.simulation.market_maker import Summary, simulate
from twinspire.simulation.sessions import Requests, draw_requests
from twinspire.simulation.truth import Truth

__all__ = ["Actions", "Requests", "Summary", "Truth", "act", "draw_requests", "simulate", "truth"]
