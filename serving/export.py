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
    from serving.versions import Version

EVERY_S = 1.0


class Exporter:
    """Publishes the metrics of a service and its application until the process ends."""

    def __init__(self, service: Service, app: Application, replica: str) -> None:
        self._service, self._app, self._replica = service, app, replica
        self._gauges: dict[str, Gauge] = {}
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def publish(self) -> None:
        """Set every gauge."""
        for version in list(self._service.versions.current.values()):
            self._publish(version)
            for varied in list(version.variations.values()):
                self._publish(varied)
        self._set("twinspire_searches", self._service.searches)
        self._set("twinspire_waiting", self._service.waiting)
        self._set("twinspire_failed", self._app.failed)
        for (experiment, arm), count in list(self._service.splitter.exposures.items()):
            self._set("twinspire_exposures", count, experiment=experiment, arm=arm)
        events = self._service.events
        for state, counts in (("written", events.written), ("waiting", events.waiting), ("failed", events.failed)):
            for table, count in counts.items():
                self._set(f"twinspire_events_{state}", count, table=table)
        for status, count in list(self._app.refusals.items()):
            self._set("twinspire_refused", count, status=str(status))

    def _publish(self, version: Version) -> None:
        own = {"arm": version.label, "model": version.model["name"], "version": version.model["version"]}
        for stage, histogram in version.metrics.stages.items():
            self._histogram("twinspire_seconds", histogram, **own, stage=stage)
        self._histogram("twinspire_batch_size", version.metrics.sizes, **own)
        self._set("twinspire_empty_results", version.metrics.empty, **own)
        if version.created is not None:
            self._set("twinspire_index_age_seconds", (datetime.now(UTC) - version.created).total_seconds(), **own)

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
            self._gauges[name] = Gauge(name, tag_keys=("replica", *tags))
        self._gauges[name].set(value, tags={"replica": self._replica} | tags)
