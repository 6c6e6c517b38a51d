"""ray_cluster.yaml and the Kubernetes manifests fit the schemas they are for, and say what the code says."""

import importlib
import shlex
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from jsonschema.exceptions import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from serving.launch import throughput_environment
from twinspire.cli import PIPELINES, cli

pytest.importorskip("ray.serve")  # also keeps Ray's own deprecation warnings, at its first import, from failing us

ROOT = Path(__file__).parents[2]
SHARED = "/mnt/shared"
KUBERNETES = "1.33"  # KubeRay's fields are those of its 1.7 reference
SERVICE = {"serveConfigV2", "rayClusterConfig"}
JOB = {
    "entrypoint",
    "entrypointNumCpus",
    "runtimeEnvYAML",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
}
CLUSTER = {
    "rayVersion",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "authOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def prepared():
    return prepare_config(read("ray_cluster.yaml"))


@pytest.fixture(params=["rayservice", "rayjob"])
def manifest(request):
    return read(f"kubernetes/{request.param}.yaml")


def ray_cluster(manifest):
    return manifest["spec"].get("rayClusterConfig") or manifest["spec"]["rayClusterSpec"]


def groups(manifest):
    cluster = ray_cluster(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def served(command):
    """The variables that a command of a Ray cluster's config sets."""
    lines = [line.strip().removeprefix("export ") for line in command.splitlines() if "export " in line]
    return dict(part.split("=", 1) for line in lines for part in [shlex.split(line)[0]])


def test_ray_takes_the_cluster(prepared):
    validate_config(prepared)


@pytest.mark.parametrize("damage", [{"max_worker": 3}, {"head_node_type": "tail"}, {"max_workers": "many"}])
def test_what_ray_would_not_take_is_noticed(damage):
    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config(read("ray_cluster.yaml") | damage))


def test_the_cluster_has_a_head_without_work_and_workers_within_bounds(prepared):
    types = prepared["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu"]["resources"]["GPU"] == 1
    for name in ("cpu", "gpu"):
        assert types[name]["min_workers"] == 0
        assert 0 < types[name]["max_workers"] <= prepared["max_workers"]


def test_every_node_has_the_variables_before_ray_starts(prepared):
    (written,) = [command for command in prepared["setup_commands"] if "twinspire.env <<" in command]
    assert served(written).items() >= throughput_environment().items()
    assert served(written)["RAY_AUTH_MODE"] == "token"
    for node in ("head", "worker"):
        starts = [c for c in prepared[f"{node}_start_ray_commands"] if "ray start" in c or "ray stop" in c]
        assert len(starts) == 2
        assert all(command.startswith(". ~/twinspire.env;") for command in starts)
    assert any(SHARED in command for command in prepared["setup_commands"])


def test_kubernetes_takes_the_pods_and_the_storage(manifest):
    kubernetes_validate.validate(read("kubernetes/storage.yaml"), KUBERNETES, strict=True)
    for number, group in enumerate(groups(manifest)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "shared", "mountPath": SHARED} in container["volumeMounts"]
        claim = read("kubernetes/storage.yaml")["metadata"]["name"]
        assert group["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim


def test_what_kubernetes_would_not_take_is_noticed(manifest):
    template = groups(manifest)[0]["template"]
    template["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, KUBERNETES, strict=True)


def test_the_fields_are_those_of_kuberay(manifest):
    assert manifest["apiVersion"] == "ray.io/v1"
    assert set(manifest["spec"]) <= {"RayService": SERVICE, "RayJob": JOB}[manifest["kind"]]
    cluster = ray_cluster(manifest)
    assert set(cluster) <= CLUSTER
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    for group in groups(manifest):
        assert set(group) <= GROUP
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_service_is_what_serve_deploys():
    manifest = read("kubernetes/rayservice.yaml")
    for group in groups(manifest):
        (container,) = group["template"]["spec"]["containers"]
        given = {one["name"]: one["value"] for one in container["env"]}
        assert given.items() >= throughput_environment().items()
    deployable(yaml.safe_load(manifest["spec"]["serveConfigV2"]))


def deployable(config):
    from ray.serve.schema import ServeDeploySchema

    from serving.deployment import Settings

    (application,) = ServeDeploySchema.model_validate(config).applications
    module, name = application.import_path.split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert Settings.model_validate(application.args).bundle


def test_the_job_runs_a_command_of_ours():
    entry = shlex.split(read("kubernetes/rayjob.yaml")["spec"]["entrypoint"])
    assert entry[:3] == ["python", "-m", "pipelines.fit"]
    command = cli.get_command(None, "fit")
    given = command.make_context("fit", entry[3:]).params
    assert str(given["data"]).startswith(SHARED)
    assert str(given["out"]).startswith(SHARED)
    stop = yaml.safe_load(read("kubernetes/rayjob.yaml")["spec"]["runtimeEnvYAML"])["env_vars"]
    assert stop.items() <= read("runtime_env.yaml")["env_vars"].items()


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_has_a_module_a_project_and_the_same_options(name):
    assert (ROOT / "pipelines" / f"{name}.py").is_file()
    project = read(f"mlflow_projects/{name}/MLproject")["entry_points"]["main"]
    command = cli.get_command(None, name)
    needed = {option.name for option in command.params if option.required}
    assert set(project["parameters"]) >= needed | {"address"}
    line = project["command"].format(**{parameter: f"/x/{parameter}" for parameter in project["parameters"]})
    module, _, arguments = line.partition("python -m pipelines.")[2].partition(" ")
    assert module == name
    assert command.make_context(name, shlex.split(arguments)).params["submit"] == "/x/address"
    assert "--submit" in CliRunner().invoke(cli, [name, "--help"]).output
