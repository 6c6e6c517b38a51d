"""What a replica measures, to Ray's metrics: read once a second, so that a request pays nothing for it.

Everything is a gauge that is set to a total, the buckets of histograms too: Ray's own histogram takes one value at a
time, a call for each search. Prometheus' `rate` and `histogram_quantile` read these as they read any counter.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ray.util.metrics import Gauge

if TYPE_CHECKING:
    from serving.application import Application
    from serving.metrics import Histogram
    from serving.service import Service

EVERY_S = 1.0
_TAGS = ("arm", "model", "version", "replica")


class Exporter:
    """Publishes the metrics of a service and its application until the process ends."""

    def __init__(self, service: Service, app: Application, replica: str) -> None:
        self._service, self._app, self._replica = service, app, replica
        self._gauges: dict[str, Gauge] = {}
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def publish(self) -> None:
        """Set every gauge."""
        service, metrics = self._service, self._service.metrics
        for stage, histogram in metrics.stages.items():
            self._histogram("twinspire_seconds", histogram, stage=stage)
        self._histogram("twinspire_batch_size", metrics.sizes)
        self._set("twinspire_searches", service.searches)
        self._set("twinspire_empty_results", metrics.empty)
        self._set("twinspire_waiting", service.waiting)
        self._set("twinspire_failed", self._app.failed)
        for status, count in list(self._app.refusals.items()):
            self._set("twinspire_refused", count, status=str(status))
        if (created := service.created) is not None:
            self._set("twinspire_index_age_seconds", (datetime.now(UTC) - created).total_seconds())

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY_S):
            self.publish()

    def _histogram(self, name: str, histogram: Histogram, **tags: str) -> None:
        counts, total = histogram.read()
        for bound, count in zip([*map(str, histogram.bounds), "+Inf"], counts, strict=True):
            self._set(f"{name}_bucket", count, **tags, le=bound)
        self._set(f"{name}_sum", total, **tags)
        self._set(f"{name}_count", counts[-1], **tags)

    def _set(self, name: str, value: float, **tags: str) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, tag_keys=(*_TAGS, *tags))
        model = self._service.model
        own = {"arm": self._service.arm, "model": model["name"], "version": model["version"], "replica": self._replica}
        self._gauges[name].set(value, tags=own | tags)
