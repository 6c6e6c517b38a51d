"""A marketplace with a known truth: catalogue, shoppers, queries, clicks and purchases, and what is behind them.

`simulate` writes a dataset; `truth.load` reads back what is true of it; `draw_requests` and `act` let the same shoppers
come again and act on other results, and `play` lets them visit a shop page by page, until they have bought or left.
"""

from twinspire.simulation import truth
from twinspire.simulation.behaviour import Actions, Choices, act
from twinspire.simulation.market_maker import Summary, simulate
from twinspire.simulation.sessions import Requests, draw_requests
from twinspire.simulation.truth import Truth
from twinspire.simulation.visits import Searches, Visits, draw_visits, play

__all__ = [
    "Actions",
    "Choices",
    "Requests",
    "Searches",
    "Summary",
    "Truth",
    "Visits",
    "act",
    "draw_requests",
    "draw_visits",
    "play",
    "simulate",
    "truth",
]
