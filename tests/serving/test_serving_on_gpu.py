"""Serving on a GPU, as far as a machine without one can tell; on a CPU with the same code."""

import os

import pytest
import torch
from test_follow import Shop
from test_serve_command import refused

from serving.launch import Options, require_gpus
from serving.sources import Sources
from twinspire import processes
from twinspire.bundle import Bundle
from twinspire.errors import EnvironmentProblem
from twinspire.index.on_device import DeviceIndex

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
def test_a_gpu_that_is_not_there_is_said_and_nothing_is_started(tiny_bundle):
    before = processes.naming("haproxy.cfg") | processes.naming("raylet")
    said = refused("--bundle", str(tiny_bundle), "--device", "cuda", "--port", str(processes.free_port()))
    assert said.startswith("error: device cuda: PyTorch")
    assert "use cpu" in said
    others = processes.descendants(os.getppid())  # of tests beside this one; what a command leaves has no parent
    assert (processes.naming("haproxy.cfg") | processes.naming("raylet")) - others <= before


@no_gpu
def test_a_replica_says_it_too(tiny_bundle):
    with pytest.raises(EnvironmentProblem, match="device cuda: PyTorch"):
        Sources(device="cuda").load(str(tiny_bundle))


@pytest.mark.parametrize(
    ("share", "replicas", "most", "fits"),
    [
        (1.0, 2, 2, True), (1.0, 3, 2, False), (0.5, 4, 4, True),
        (0.5, 5, 4, False), (1 / 3, 6, 6, True), (0.3, 7, 6, False),
    ],
)  # fmt: skip
def test_replicas_that_no_gpu_would_ever_be_free_for_are_refused(monkeypatch, share, replicas, most, fits):
    """On two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = Options("b", device="cuda", gpus_per_replica=share, max_replicas=replicas)
    if fits:
        require_gpus(options)
    else:
        with pytest.raises(EnvironmentProblem, match=f"2 GPUs hold {most} such replicas, not {replicas}"):
            require_gpus(options)


def test_the_sources_load_onto_the_device_and_still_know_contents(tiny_bundle, monkeypatch):
    loaded = []
    monkeypatch.setattr(Bundle, "load", lambda folder, **named: loaded.append(named) or Bundle)
    monkeypatch.setattr("serving.sources.check_canaries", lambda bundle: 0)
    sources = Sources(device="cuda")
    sources.load(str(tiny_bundle))
    assert loaded == [{"verify": True, "device": "cuda"}]
    assert len(sources.identify(str(tiny_bundle))) == 16


@pytest.fixture
def shop(hybrid_bundle, tmp_path, monkeypatch):
    """Its bundles are on a device."""
    usual = Bundle.load
    monkeypatch.setattr(Bundle, "load", lambda folder, **named: usual(folder, **named).on("cpu"))
    made = Shop(hybrid_bundle, tmp_path)
    yield made
    made.service.close()


def test_a_version_is_swapped_and_rolled_back_there(shop):
    def scores(answer):
        return [item["score"] for item in answer["items"]]

    before = shop.answer(filters={"brand": "acme"})
    assert before["items"]
    shop.fit("2")
    shop.follower.step()
    after = shop.answer(filters={"brand": "acme"})
    assert (after["model"]["version"], scores(after)) == ("2", scores(before))
    shop.follower.roll_back("default")
    assert shop.served() == "1"
    assert isinstance(shop.service.versions.current["default"].bundle.index.vectors, DeviceIndex)
