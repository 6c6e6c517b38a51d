import importlib
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import serving
from serving.wanted import ArmsFile, Wanted

pytest.importorskip("ray.serve")  # also keeps Ray's own deprecation warnings, at its first import, from failing us

pytestmark = pytest.mark.ray
CONFIG = Path(serving.__file__).parent / "deploy.yaml"


@pytest.fixture
def build(tmp_path):
    from serving.deployment import Settings, build

    return lambda **args: build(Settings(**{"state_dir": str(tmp_path / "state")} | args))


def options(application):
    return application._bound_deployment._deployment_config


def test_the_config_file_is_one_that_serve_takes(tmp_path):
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    builder = getattr(importlib.import_module(module), name)
    # As Serve does it: the builder takes one argument, and its annotation says how to read `args`.
    args = application.args | {"state_dir": str(tmp_path / "state")}
    made = call_user_app_builder_with_args_if_necessary(builder, args)
    assert ArmsFile(tmp_path / "state").read() == {"default": Wanted(bundle=application.args["bundle"])}
    scaling = options(made).autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 8)


def test_the_config_file_names_the_switches_that_make_it_fast():
    from serving.launch import throughput_environment

    text = CONFIG.read_text()
    for name, value in throughput_environment().items():
        assert f"export {name}={shlex.quote(value)}\n" in text


def test_a_fixed_number_of_replicas_takes_many_requests_at_once(build):
    made = options(build(bundle="b", min_replicas=3, max_replicas=3))
    assert made.num_replicas == 3
    assert made.autoscaling_config is None
    assert made.max_ongoing_requests >= 256


def test_an_unknown_setting_is_refused(build):
    with pytest.raises(ValidationError, match="replica"):
        build(bundle="b", replica=3)


@pytest.mark.parametrize(("device", "share"), [("cpu", 0), ("cuda", 0.25)])
def test_a_replica_asks_ray_for_its_share_of_a_gpu(build, device, share):
    made = build(bundle="b", device=device, gpus_per_replica=0.25)._bound_deployment
    assert made.ray_actor_options == {"num_cpus": 1.0, "num_gpus": share}


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 2])
def test_a_replica_has_at_most_one_gpu(build, wrong):
    with pytest.raises(ValidationError, match="gpus_per_replica"):
        build(bundle="b", gpus_per_replica=wrong)
