"""An own Ray whose node does not come up is started once more, and leaves no process behind."""

import gc
import os

import pytest
import ray
import ray._private.services as services

from twinspire import cluster, processes
from twinspire.errors import EnvironmentProblem

pytestmark = [
    pytest.mark.ray,
    # Ray drops its handles of the processes of a node that did not come up.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Slow:
    """The first so many nodes are not seen in time, as on a machine that is too busy."""

    def __init__(self, monkeypatch, nodes):
        self.left, self.asked = nodes, services.get_node
        self.abandoned = set()
        monkeypatch.setattr(services, "get_node", self)

    def __call__(self, *arguments):
        if self.left:
            self.left -= 1
            self.abandoned |= processes.descendants(os.getpid())
            raise Exception("The current node timed out during startup.")
        return self.asked(*arguments)


def test_a_node_that_does_not_come_up_is_tried_again(monkeypatch):
    slow = Slow(monkeypatch, nodes=1)
    before = processes.descendants(os.getpid())
    with cluster.session():
        assert slow.abandoned - before
        assert not (slow.abandoned - before) & processes.descendants(os.getpid())
        assert ray.get(ray.remote(lambda: 7).remote()) == 7
    assert processes.descendants(os.getpid()) <= before
    gc.collect()


def test_and_if_none_comes_up_it_is_one_clear_line(monkeypatch):
    Slow(monkeypatch, nodes=cluster.STARTS)
    before = processes.descendants(os.getpid())
    with pytest.raises(EnvironmentProblem, match=r"Ray did not start: The current node timed out during startup\.$"):
        cluster.connect()
    assert not ray.is_initialized()
    assert processes.descendants(os.getpid()) <= before
    gc.collect()
