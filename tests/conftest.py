"""Settings of all tests."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny_encoder
import tiny_shop
from hypothesis import settings

if TYPE_CHECKING:
    import rich_shop

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads only wait for each other

# Who ends the tests from outside ends what they started too: fixtures unwind, as at Ctrl-C.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, signal.default_int_handler)

# A first call compiles or loads a kernel, so the time of one example says nothing. `make test-slow` takes many.
settings.register_profile("many", deadline=None, max_examples=300)
settings.register_profile("few", deadline=None, max_examples=30)
settings.load_profile("few")


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


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny shop's tables (120 items, 40 users, 1,600 clicks); see tiny_shop. Not to be written into."""
    return tiny_shop.write_dataset(tmp_path_factory.mktemp("tiny") / "shop")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_dataset: Path) -> Path:
    """A real bundle trained on the tiny shop, without Ray. Not to be written into: copy it to damage it."""
    return tiny_shop.fit_without_ray(tiny_dataset, tiny_dataset.parent / "tiny")


@pytest.fixture(scope="session")
def hybrid_bundle(tiny_dataset: Path) -> Path:
    """The same with words (0.3) and earlier clicks (0.5) beside the vectors."""
    return tiny_shop.fit_without_ray(tiny_dataset, tiny_dataset.parent / "hybrid", lexical=0.3, memory=0.5)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a sentence encoder of 16 dimensions that knows six words; see tiny_encoder."""
    words = ["red", "blue", "green", "shoe", "hat", "mug"]
    return tiny_encoder.write_encoder(tmp_path_factory.mktemp("encoders") / "plain", words)


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> "rich_shop.Rich":
    """A bundle with two heads over every kind of column, and what it was made of; see rich_shop."""
    import rich_shop  # here: it imports torch, which tests of other rooms need not wait for

    return rich_shop.make(tmp_path_factory.mktemp("rich"))
