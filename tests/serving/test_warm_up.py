"""What is warm compiles nothing any more, whatever is asked first."""

import sys

from numba.core.dispatcher import Dispatcher

from serving.service import Service
from twinspire.bundle import Bundle
from twinspire.features.query import Query, Shopper

TEXTS = ("red shoes", "mug", "zebra", "", "acme red shoes")
FILTERS = (None, {"brand": "acme"}, {"brand": ["acme", "nobody"]}, {"price": {"max": 20}}, {"price": {"min": 1e9}})


def signatures():
    """Of each compiled function of ours, how many kinds of arguments it was compiled for."""
    rooms = [room for name, room in list(sys.modules.items()) if name.startswith(("twinspire", "serving"))]
    return {
        f"{room.__name__}.{name}": len(held.signatures)
        for room in rooms
        for name, held in vars(room).items()
        if isinstance(held, Dispatcher)
    }


def test_no_caller_waits_for_a_compiler(hybrid_bundle, tmp_path):
    service = Service(tmp_path / "events")
    bundle = Bundle.load(hybrid_bundle)
    assert bundle.index.memory is not None
    assert {"brand", "price"} <= set(bundle.index.filters.columns)
    service.put("default", bundle)
    before = signatures()
    version = service.versions.of("default")
    for filters in FILTERS:
        for batch in [[text] for text in TEXTS] + [list(TEXTS)]:
            for shopper in (None, Shopper("u0"), Shopper("nobody")):
                found = bundle.nearest(bundle.ask([Query(text, shopper, filters) for text in batch]), 7)
                version.encoder.encode(found.items, found.scores)
    assert {name: count for name, count in signatures().items() if count != before.get(name)} == {}
    service.close()
