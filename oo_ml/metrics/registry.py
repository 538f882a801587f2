"""The registry of a process: functions that count and observe, and the text for Prometheus.

With PROMETHEUS_MULTIPROC_DIR, which `oo-ml serve` sets for several processes, each process writes its numbers to files
in that directory, and any of them gives the text for all. prometheus_client reads the variable when it is imported.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from oo_ml.metrics.declarations import ALL, Declared, Kind

# Its series would double the text.
disable_created_metrics()  # type: ignore[no-untyped-call]

_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class Sample:
    """A value that any process can read for itself, such as one from the database."""

    declared: Declared
    value: float
    labels: tuple[str, ...] = ()


class Metrics:
    """The metrics of an application. The functions that it returns may be called in any thread, and never raise.

    Keep these functions instead of asking for them again: to look labels up takes longer than to count.
    """

    def __init__(self) -> None:
        """Create every metric, without values."""
        self.is_shared = _DIRECTORY in os.environ
        registry = CollectorRegistry()
        self._metrics: dict[str, Any] = {one.name: _create(one, registry) for one in ALL if not one.is_read}
        self._source: Collector = MultiProcessCollector(None) if self.is_shared else registry  # type: ignore[no-untyped-call]

    def increase(self, declared: Declared, *labels: str) -> Callable[..., None]:
        """Return the function that adds 1, or its argument, to a counter."""
        return self._child(declared, labels).inc  # type: ignore[no-any-return]

    def observe(self, declared: Declared, *labels: str) -> Callable[[float], None]:
        """Return the function that adds a value to a histogram."""
        return self._child(declared, labels).observe  # type: ignore[no-any-return]

    def set(self, declared: Declared, *labels: str) -> Callable[[float], None]:
        """Return the function that sets a gauge of this process; the text has the sum over living processes."""
        return self._child(declared, labels).set  # type: ignore[no-any-return]

    def render(self, samples: Sequence[Sample]) -> bytes:
        """Return the text for Prometheus: the numbers of all processes, and `samples`."""
        return generate_latest(_Joined(self._source, samples))

    def _child(self, declared: Declared, labels: Sequence[str]) -> Any:  # noqa: ANN401 - a metric of any kind
        metric = self._metrics[declared.name]
        return metric.labels(*labels) if labels else metric


@dataclass(frozen=True, slots=True)
class _Joined(Collector):
    source: Collector
    samples: Sequence[Sample]

    def collect(self) -> Iterator[Metric]:
        yield from self.source.collect()
        for declared in dict.fromkeys(sample.declared for sample in self.samples):
            family = GaugeMetricFamily(declared.name, declared.meaning, labels=declared.labels)
            for sample in self.samples:
                if sample.declared is declared:
                    family.add_metric(sample.labels, sample.value)
            yield family


def _create(declared: Declared, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    named = (declared.name, declared.meaning, declared.labels)
    match declared.kind:
        case Kind.COUNTER:
            return Counter(*named, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(*named, registry=registry, buckets=declared.buckets)
        case Kind.GAUGE:
            # Queues and connections of a process end with it, and those of all add up.
            return Gauge(*named, registry=registry, multiprocess_mode="livesum")
