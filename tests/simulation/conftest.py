from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twinspire.simulation import Summary, Truth, simulate, truth

if TYPE_CHECKING:
    from pathlib import Path

ARGUMENTS = {"items": 3000, "users": 400, "interactions": 30_000, "seed": 3}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    folder = tmp_path_factory.mktemp("market") / "data"
    return folder, simulate(folder, **ARGUMENTS)


@pytest.fixture(scope="session")
def market_folder(made: tuple[Path, Summary]) -> Path:
    return made[0]


@pytest.fixture(scope="session")
def market_truth(market_folder: Path) -> Truth:
    return truth.load(market_folder)
