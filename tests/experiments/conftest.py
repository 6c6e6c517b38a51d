"""Folders of simulated events, made once."""

import gc

import pytest
from planted import START

from twinspire.simulation.traffic import Traffic, write_events


@pytest.fixture(scope="session", autouse=True)
def _little_garbage():
    """statsmodels' multipletests collects garbage at every call; what is loaded by now needs no looking at."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Makes a folder of events of experiment `e`."""

    def make(**traffic):
        folder = tmp_path_factory.mktemp("events")
        write_events(folder, "e", START, Traffic(**{"units": 15_000, "days": 10, "visits_a_day": 0.15, **traffic}))
        return folder

    return make


@pytest.fixture(scope="session")
def gained(simulated):
    """Purchases rise by 25 %, and by 40 % more on long-tail queries; clicks by 10 %."""
    return simulated(lift=0.25, tail_lift=0.4, click_lift=0.1, buy=0.15)


@pytest.fixture(scope="session")
def alike(simulated):
    """Both arms are the same."""
    return simulated(units=6000, seed=4)
