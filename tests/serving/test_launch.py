"""What `twinspire serve` gives HAProxy, without starting it."""

import resource

import pytest

from serving import launch


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1024, 309), (20_000, 7_900), (1_048_576, 32_768), (resource.RLIM_INFINITY, 32_768), (64, 1)],
)
def test_haproxy_opens_no_more_connections_than_it_may_have_files_for(monkeypatch, descriptors, connections):
    """It wants 2.5 for each and does not start without."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (descriptors, descriptors))
    assert launch._most_connections() == connections
    assert descriptors in (64, resource.RLIM_INFINITY) or 2.5 * connections + 64 < descriptors
