"""A bundle knows what it should answer, and one that answers otherwise is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from twinspire.bundle import Bundle, check_canaries
from twinspire.bundle.canaries import CANARIES, Canary
from twinspire.errors import BundleError


@pytest.fixture
def copy(hybrid_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(hybrid_bundle, tmp_path / "copy")
    return tmp_path / "copy"


def canaries(folder: Path) -> list[dict]:
    return json.loads((folder / CANARIES).read_text())


def write(folder: Path, told: list[dict]) -> None:
    (folder / CANARIES).write_text(json.dumps(told))


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as error:
        check_canaries(Bundle.load(folder, verify=False))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_holds_queries_with_and_without_shoppers_and_their_answers(hybrid_bundle: Path) -> None:
    told = canaries(hybrid_bundle)
    assert any(one["user_id"] for one in told)
    assert any(not one["user_id"] for one in told)
    assert all(len(one["items"]) == len(one["scores"]) == 10 for one in told)
    assert check_canaries(Bundle.load(hybrid_bundle)) == len(told)


def test_scores_that_are_others_are_refused(copy: Path) -> None:
    told = canaries(copy)
    told[3]["scores"][2] += 0.01
    write(copy, told)
    message = refused(copy)
    assert repr(told[3]["query"]) in message
    assert "when it was written it gave" in message


def test_items_that_are_not_found_again_are_refused(copy: Path) -> None:
    told = canaries(copy)
    bundle = Bundle.load(copy, verify=False)
    before = told[0]["items"]
    others = [item for item in bundle.item_ids if item not in told[0]["items"]][:10]
    told[0]["items"] = others
    write(copy, told)
    assert "when it was written it found" in refused(copy)
    told[0]["items"] = [*before[:9], "nobody"]
    write(copy, told)
    assert "it knows no item 'nobody'" in refused(copy)


def test_the_last_digits_and_a_neighbour_of_the_last_item_may_differ(copy: Path) -> None:
    """As another processor or a newer search would have it."""
    told = canaries(copy)
    bundle = Bundle.load(copy, verify=False)
    for one in told:
        spare = next(item for item in bundle.item_ids if item not in one["items"])
        one["items"][-1] = spare
        row = np.array([bundle.item_rows[spare]])
        one["scores"][-1] = float(bundle.score([Canary.model_validate(one).asked()], row)[0])
        one["scores"] = [score + 1e-4 for score in one["scores"]]
    write(copy, told)
    assert check_canaries(bundle) == len(told)


def test_no_list_of_canaries(copy: Path) -> None:
    (copy / CANARIES).write_text("{}")
    assert "fit again" in refused(copy)
    (copy / CANARIES).unlink()
    assert check_canaries(Bundle.load(copy, verify=False)) == 0
