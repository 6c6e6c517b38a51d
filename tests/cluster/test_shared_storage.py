"""A fit on a cluster whose nodes do not all see its folder says so before it trains."""

import shutil
import subprocess
import sys

import pytest
from ray_head import ray_head

pytestmark = [pytest.mark.ray, pytest.mark.slow]
HIDING = ["unshare", "--mount"]
HIDDEN = 'mount -t tmpfs none "$0" && exec "$@"'  # for what comes after it, the folder is another, empty one


def test_a_folder_that_a_node_does_not_see_is_refused(tiny_dataset, tmp_path):
    if not shutil.which("unshare") or subprocess.run([*HIDING, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs `unshare --mount`, which this machine does not allow")
    out = tmp_path / "bundles" / "bundle"
    out.parent.mkdir()
    with ray_head(cpus=2) as head:
        head.add_node(4, before=[*HIDING, "sh", "-c", HIDDEN, str(out.parent)])
        ended = subprocess.run(
            [sys.executable, "-m", "twinspire", "fit", "--data", tiny_dataset, "--out", out],
            env=head.environment | {"RAY_ADDRESS": head.address, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/m.db"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert ended.returncode == 2, ended.stderr
    told = ended.stderr.strip().splitlines()[-1]
    assert told.startswith(f"error: {out.parent}/.bundle.work is not shared: node ")
    assert told.endswith("does not see it; give an --out on storage that every node mounts at the same path")
    assert not list(out.parent.glob(".bundle.work/.seen-*"))
