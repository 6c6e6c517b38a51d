"""Settings of all tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A first call compiles or loads a kernel, so the time of one example says nothing.
settings.register_profile("twinspire", deadline=None)
settings.load_profile("twinspire")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of a real dataset by name; the test is skipped where it is not there.

    Looked for in TWINSPIRE_SHARED, or in a folder of real data beside the checkout.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("TWINSPIRE_SHARED", beside))

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no real data {name} in {root}")
        return root / name

    return find
