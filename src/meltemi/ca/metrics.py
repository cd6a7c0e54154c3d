"""What the authority counts, under the names that Istio's dashboards know.

Istio's counters have no `_total` at their end, and prometheus_client gives every counter one. So the counts are kept as
plain numbers and handed over as untyped samples when somebody scrapes; rates over them work as over counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from meltemi.ca.authority import Authority

_COUNTS = {
    "csr_count": "Signing requests received.",
    "authentication_failure_count": "Requests refused because the caller did not prove who it is.",
    "csr_parsing_err_count": "Requests refused because the signing request could not be used.",
    "id_extraction_err_count": "Requests refused because the caller has no identity in this mesh.",
    "csr_sign_err_count": "Requests that failed while the certificate was signed.",
    "success_cert_issuance_count": "Certificates issued.",
}


class CaMetrics(Collector):
    """Counts of one certificate service and the expiry of its authority, as a collector for a registry."""

    def __init__(self, authority: Authority, clock: Callable[[], datetime]) -> None:
        self._authority = authority
        self._clock = clock
        self._counts = dict.fromkeys(_COUNTS, 0)

    def count(self, name: str) -> None:
        """Adds one to a count, named without the `citadel_server_` in front. Raises KeyError for an unknown one."""
        self._counts[name] += 1

    def value(self, name: str) -> int:
        """The present count. Raises KeyError for an unknown one."""
        return self._counts[name]

    def register(self, registry: CollectorRegistry) -> None:
        """Has the registry collect these."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All metrics, as prometheus_client asks for them."""
        for name, help_text in _COUNTS.items():
            yield _sample(f"citadel_server_{name}", help_text, self._counts[name], "unknown")
        now = self._clock()
        for what, end in (("root_cert", self._authority.roots_not_after), ("cert_chain", self._authority.not_after)):
            text = what.replace("_cert", " certificate").replace("cert_", "certificate ")
            yield _sample(f"citadel_server_{what}_expiry_timestamp", f"End of the {text}, Unix time.", end.timestamp())
            left = (end - now).total_seconds()
            yield _sample(f"citadel_server_{what}_expiry_seconds", f"Time left of the {text}.", left)


def _sample(name: str, help_text: str, value: float, kind: str = "gauge") -> Metric:
    metric = Metric(name, help_text, kind)
    metric.add_sample(name, {}, value)
    return metric
