"""What the xDS server counts, under Istio's names where Istio has one (`pilot/pkg/xds/monitoring.go`)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SHORT = {
    "Cluster": "cds",
    "ClusterLoadAssignment": "eds",
    "Listener": "lds",
    "RouteConfiguration": "rds",
    "VirtualHost": "vhds",
    "Secret": "sds",
    "NameTable": "nds",
}


def short(type_url: str) -> str:
    """The usual abbreviation of a type: cds, eds, lds, rds, vhds, sds, nds."""
    name = type_url.rpartition(".")[2]
    return _SHORT.get(name, name.lower())


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.connected = Gauge("pilot_xds", "Proxies connected to this control plane over xDS.")
        self.pushes = Counter("pilot_xds_pushes", "Responses sent to proxies, by type.", ["type"])
        self._pushes: dict[str, Counter] = {}  # by type URL: it is quicker than asking for the labels each time
        self.rejects = Counter("pilot_total_xds_rejects", "Responses that proxies refused, by type.", ["type"])
        self.convergence = Histogram(
            "pilot_proxy_convergence_time",
            "Seconds from a change of configuration to the moment when all proxies concerned have taken it.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 5, 10, 30),
        )

    def pushed(self, type_url: str) -> None:
        """A response was sent."""
        counter = self._pushes.get(type_url)
        if counter is None:
            counter = self._pushes[type_url] = self.pushes.labels(short(type_url))
        counter.inc()

    def rejected(self, type_url: str) -> None:
        """A response was refused."""
        self.rejects.labels(short(type_url)).inc()


METRICS = Metrics()
