"""Whether a ProxyConfig can mean anything: a number of threads, and names that an environment can have."""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults
from meltemi.api.networking.proxy_config import ProxyConfig, ProxyConfigSpec
from meltemi.api.validation import terms


def proxy_config(resource: ProxyConfig) -> Faults:
    """What is wrong with a ProxyConfig."""
    spec = resource.spec
    if spec.selector:
        yield from terms.labels("spec.selector.matchLabels", spec.selector.match_labels)
    if spec == ProxyConfigSpec(selector=spec.selector):
        yield Fault("spec", "the ProxyConfig says nothing", "add concurrency or environmentVariables", "RequiredField")
    if spec.concurrency is not None and spec.concurrency < 0:
        yield Fault("spec.concurrency", "it is negative", "write 0 for all cores, or a number", "OutOfRange")
    for name in spec.environment_variables:
        if not name or "=" in name or "\0" in name:
            where = paths.key("spec.environmentVariables", name)
            yield Fault(where, f"{name!r} is not a name of a variable", "use letters, digits and '_'")
