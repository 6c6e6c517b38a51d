"""A real MLflow tracking server in a process of its own, for tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from twinspire.processes import free_port

# A webhook of a server on this machine goes to a server on this machine; its workers for jobs take long to start.
SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}


class MlflowServer:
    """`mlflow server` on a free port over the store at `backend`; keeps and serves the artifacts in `folder`."""

    def __init__(self, backend: str, folder: Path, workers: int = 1) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", str(workers)]
        command += ["--port", self.uri.rpartition(":")[2], "--backend-store-uri", backend]
        command += ["--artifacts-destination", str(folder / "server-artifacts")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=folder, env=os.environ | SETTINGS
            )

    def __enter__(self) -> "MlflowServer":
        try:
            self._wait()
        except BaseException:  # who is interrupted here never comes to __exit__
            self.kill()
            raise
        return self

    def _wait(self) -> None:
        for _ in range(1200):
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"{self.uri}/health").close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(self.log.read_text())

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """As a machine that loses its power."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
