"""A replica follows what is wanted: new bundles are verified and swapped in, bad ones refused, rollbacks instant."""

import asyncio
import json
import shutil
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from edited import edit_manifest

from serving import sources
from serving.endpoints import application
from serving.follow import Follower
from serving.gate import open_gate
from serving.schema import SearchRequest, Status
from serving.service import Service
from serving.sources import Sources
from serving.wanted import ArmsFile
from twinspire.bundle.manifest import sha256
from twinspire.errors import BundleError, EnvironmentProblem, RequestError


class Shop:
    """A bundle in a folder, a service and what follows the folder."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.original, self.bundle = bundle, folder / "bundle"
        shutil.copytree(bundle, self.bundle)
        edit_manifest(self.bundle, version="1")
        self.service = Service(folder / "events")
        self.file = ArmsFile(folder / "state")
        self.file.start({"default": str(self.bundle)})
        self.follower = self.service.follower = Follower(self.service, self.file, Sources(), 0.0)
        self.follower.first()

    def fit(self, version: str) -> None:
        """Put another version in the folder's place."""
        new = self.bundle.with_name("new")
        shutil.copytree(self.original, new)
        edit_manifest(new, version=version)
        shutil.rmtree(self.bundle)
        new.rename(self.bundle)

    def answer(self, query: str = "red shoes", **more: object) -> dict:
        async def ask() -> bytes:
            return await self.service.search(SearchRequest(query=query, **more), "id")

        return json.loads(asyncio.run(ask()))

    def served(self, arm: str = "default") -> str:
        return self.answer(arm=arm)["model"]["version"]

    def status(self) -> dict:
        told = json.loads(json.dumps(self.service.status(), default=str))
        Status.model_validate(told | {"refused": 0, "failed": 0})
        return told


@pytest.fixture
def shop(hybrid_bundle, tmp_path):
    made = Shop(hybrid_bundle, tmp_path)
    yield made
    made.service.close()


def test_a_new_bundle_in_the_folder_takes_the_place_of_the_old_one(shop):
    assert (shop.served(), shop.service.ready) == ("1", True)
    before = shop.answer()
    shop.fit("2")
    shop.follower.step()
    after = shop.answer()
    assert after["model"]["version"] == "2"
    assert after["items"] == before["items"]
    told = shop.status()
    assert told["arms"]["default"]["previous"]["model"]["version"] == "1"
    assert told["model"]["version"] == "2"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def wrong_answers(folder: Path) -> None:
    """Weights with a good checksum that are not those the bundle was written with."""
    vectors = np.load(folder / "item_vectors.npy")
    np.save(folder / "item_vectors.npy", vectors[::-1])
    manifest = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, files={**manifest["files"], "item_vectors.npy": sha256(folder / "item_vectors.npy")})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: flip(folder / "model.safetensors"), "model.safetensors does not have the checksum"),
        (lambda folder: truncate(folder / "index.faiss"), "index.faiss does not have the checksum"),
        (lambda folder: (folder / "users.parquet").unlink(), "users.parquet is missing"),
        (lambda folder: edit_manifest(folder, tokeniser_fingerprint="0" * 64), "made with tokeniser"),
        (lambda folder: edit_manifest(folder, schema_version=99), "schema version 99"),
        (wrong_answers, "when it was written it"),
    ],
)
def test_a_bad_bundle_is_refused_with_the_reason_and_the_old_one_goes_on(shop, damage, reason):
    before = shop.answer()["items"]
    shop.fit("2")
    damage(shop.bundle)
    shop.follower.step()
    assert shop.served() == "1"
    assert shop.answer()["items"] == before
    told = shop.status()
    assert reason in told["refused_bundles"].get("default", {}).get("reason", told["unreachable"].get("default"))
    shop.fit("3")
    shop.follower.step()
    assert shop.served() == "3"
    assert (shop.status()["refused_bundles"], shop.status()["unreachable"]) == ({}, {})


def test_what_was_refused_is_not_tried_again(shop, monkeypatch):
    shop.fit("2")
    flip(shop.bundle / "model.safetensors")
    loads = []
    monkeypatch.setattr(
        shop.follower._sources, "load", lambda address: loads.append(address) or sources.load_bundle(address)
    )
    for _ in range(3):
        shop.follower.step()
    assert len(loads) == 1


def test_a_bundle_that_is_gone_leaves_the_old_one_serving(shop):
    shutil.rmtree(shop.bundle)
    shop.follower.step()
    assert shop.served() == "1"
    assert "no readable manifest.json" in shop.status()["unreachable"]["default"]


def test_a_rollback_is_at_once_and_lasts_until_there_is_something_new(shop):
    shop.fit("2")
    shop.follower.step()
    shop.follower.roll_back("default")
    assert shop.served() == "1"
    shop.follower.step()
    assert shop.served() == "1", "what was rolled back is still in the folder"
    shop.fit("3")
    shop.follower.step()
    assert shop.served() == "3"


def test_a_rollback_reaches_the_other_replicas(shop, tmp_path):
    other = Service(tmp_path / "other")
    follower = other.follower = Follower(other, shop.file, Sources(), 0.0)
    follower.first()
    shop.fit("2")
    shop.follower.step()
    follower.step()
    assert other.versions.of(None).model["version"] == "2"
    shop.follower.roll_back("default")
    follower.step()
    assert other.versions.of(None).model["version"] == "1"
    other.close()


def test_without_a_previous_version_there_is_nothing_to_roll_back_to(shop):
    with pytest.raises(RequestError, match="default has no previous version in memory"):
        shop.follower.roll_back("default")
    with pytest.raises(RequestError, match="there is no such arm; this server has: default"):
        shop.follower.roll_back("b")


def test_arms_come_and_go_and_each_answers_for_itself(shop, tiny_bundle):
    shop.follower.want("b", str(tiny_bundle))
    shop.follower.step()
    tiny = json.loads((tiny_bundle / "manifest.json").read_text())["version"]
    assert (shop.served("b"), shop.served()) == (tiny, "1")
    assert shop.answer(arm="b")["arm"] == "b"

    async def both():
        return await asyncio.gather(
            *(
                shop.service.search(SearchRequest(query="red shoes", arm=arm, k=k), "id")
                for arm in ("b", None)
                for k in (3, 5)
            )
        )

    answers = [json.loads(body) for body in asyncio.run(both())]
    assert [(one["arm"], len(one["items"])) for one in answers] == [("b", 3), ("b", 5), ("default", 3), ("default", 5)]
    assert answers[0]["items"] == shop.answer(arm="b", k=3)["items"]
    shop.follower.drop("b")
    shop.follower.step()
    with pytest.raises(RequestError, match="there is no such arm"):
        shop.served("b")
    with pytest.raises(RequestError, match="always serves"):
        shop.follower.drop("default")
    with pytest.raises(BundleError, match="no readable"):
        shop.follower.want("c", str(shop.bundle / "nothing"))


def test_a_swap_under_load_fails_no_request_and_mixes_no_answer(shop):
    shop.fit("2")
    stop = threading.Event()
    versions: list[str] = []

    async def ask():
        while not stop.is_set():
            found = await asyncio.gather(
                *(shop.service.search(SearchRequest(query=q), "id") for q in ("mug", "red tent"))
            )
            versions.extend(json.loads(body)["model"]["version"] for body in found)

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    asking.start()
    try:
        shop.follower.step()
        before = len(versions)
        while len(versions) < before + 20:
            assert asking.is_alive()
    finally:
        stop.set()
        asking.join()
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}


def test_more_than_the_memory_that_there_is_is_refused(shop, monkeypatch):
    monkeypatch.setattr(sources, "available_memory", lambda: 1000)
    shop.fit("2")
    shop.follower.step()
    assert "GiB of memory" in shop.status()["refused_bundles"]["default"]["reason"]
    assert shop.served() == "1"


def test_the_memory_of_the_version_before_gives_way_to_a_new_one(shop, monkeypatch):
    shop.fit("2")
    shop.follower.step()
    versions = shop.service.versions
    held = len(versions.current) + len(versions.previous)

    def free() -> int:
        return 0 if len(versions.current) + len(versions.previous) == held else 1 << 40

    monkeypatch.setattr(sources, "available_memory", free)
    shop.fit("3")
    shop.follower.step()
    assert shop.served() == "3"


def test_what_is_kept_of_rollbacks_is_kept_for_the_same_bundle_alone(tmp_path):
    file = ArmsFile(tmp_path)
    file.start({"default": "a", "b": "c"})
    file.avoid("default", "x")
    file.start({"default": "a"})
    assert {arm: wanted.avoid for arm, wanted in file.read().items()} == {"default": ("x",)}
    file.start({"default": "other"})
    assert file.read()["default"].avoid == ()
    file.path.write_text("{")
    with pytest.raises(EnvironmentProblem, match=r"arms\.json: cannot be read"):
        file.read()


def test_a_registry_that_does_not_answer_at_the_start_is_replaced_by_what_it_gave_last(hybrid_bundle, tmp_path):
    class Down(Sources):
        known = None

        def identify(self, address):
            raise EnvironmentProblem("MLflow is not to be had")

        def last_known(self, address):
            return self.known

    file = ArmsFile(tmp_path)
    file.start({"default": "models:/shop@champion"})
    service = Service(tmp_path / "events")
    with pytest.raises(EnvironmentProblem, match="MLflow is not to be had"):
        Follower(service, file, Down(), 0.0).first()
    Down.known = ("models:/shop/3", str(hybrid_bundle))
    follower = Follower(service, file, Down(), 0.0)
    follower.first()
    assert service.versions.of(None).key == "models:/shop/3"
    assert "MLflow is not to be had; serving" in follower.status()["unreachable"]["default"]
    follower.step()
    assert service.versions.of(None).key == "models:/shop/3"
    assert application(service)
    service.close()


@pytest.fixture
def admin(shop, monkeypatch):
    """Calls the application as an administrator."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shop.bundle}/none.db")
    monkeypatch.setenv("TWINSPIRE_ADMIN_KEYS", "boss:a-secret-of-sixteen")
    app = application(shop.service, gate=open_gate(None, None, None))

    def send(path, body, key="a-secret-of-sixteen"):
        async def go():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
                return await client.post(f"/v1/admin/{path}", json=body, headers={"x-api-key": key})

        return asyncio.run(go())

    return send


def test_an_administrator_loads_rolls_back_and_drops(shop, admin, tiny_bundle):
    assert admin("load", {"arm": "b", "bundle": str(tiny_bundle)}).json() == {"arm": "b", "status": "loading"}
    shop.follower.step()
    assert shop.answer(arm="b")["arm"] == "b"
    shop.fit("2")
    shop.follower.step()
    assert admin("rollback", {}).json() == {"arm": "default", "status": "rolled back"}
    assert shop.served() == "1"
    assert admin("drop", {"arm": "b"}).status_code == 202
    for path, body, field, says in [
        ("load", {"bundle": str(shop.bundle / "no")}, "bundle", "no readable manifest.json"),
        ("load", {"bundle": "models:/shop@champion"}, "bundle", "no MLflow database"),
        ("load", {"arm": "a b", "bundle": "x"}, "arm", "letters, digits"),
        ("rollback", {"arm": "c"}, "arm", "there is no such arm"),
        ("drop", {"arm": "default"}, "arm", "always serves"),
    ]:
        refused = admin(path, body)
        assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
        assert says in refused.json()["detail"]
    assert admin("rollback", {}, key="guess").status_code == 401
