"""Python values as the small messages that Envoy wraps them in."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from google.protobuf.message import Message

from meltemi.base.durations import Timeout
from meltemi.protos import any_of
from meltemi.protos.envoy.config.core.v3.address_pb2 import Address, CidrRange, Pipe, SocketAddress
from meltemi.protos.envoy.config.core.v3.base_pb2 import RuntimeDouble, RuntimeFractionalPercent, TransportSocket
from meltemi.protos.envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from meltemi.protos.envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from meltemi.protos.envoy.type.v3.percent_pb2 import FractionalPercent, Percent
from meltemi.protos.google.protobuf.duration_pb2 import Duration
from meltemi.protos.google.protobuf.wrappers_pb2 import BoolValue, UInt32Value, UInt64Value

UNLIMITED = 4294967295  # what Envoy takes for "no limit" in circuit breakers


def duration(value: timedelta) -> Duration:
    """A protobuf Duration."""
    message = Duration()
    message.FromTimedelta(value)
    return message


def timeout(value: Timeout) -> Duration | None:
    """A timeout: zero where it is switched off, None where nothing was said and Envoy's default holds."""
    if value.disabled:
        return Duration()
    return None if value.duration is None else duration(value.duration)


def boolean(value: bool) -> BoolValue:
    """A BoolValue: a wrapped value is one that was said."""
    return BoolValue(value=value)


def uint32(value: int) -> UInt32Value:
    """A UInt32Value."""
    return UInt32Value(value=value)


def maybe_uint32(value: int | None) -> UInt32Value | None:
    """A UInt32Value, or None where nothing was said."""
    return None if value is None else UInt32Value(value=value)


def uint64(value: int) -> UInt64Value:
    """A UInt64Value."""
    return UInt64Value(value=value)


def percent(value: float) -> Percent:
    """A Percent, 0 to 100."""
    return Percent(value=value)


def fraction(value: float) -> FractionalPercent:
    """A share of 0 to 100 percent, exact to a ten-thousandth of a percent."""
    return FractionalPercent(numerator=round(value * 10_000), denominator=FractionalPercent.MILLION)


def runtime_fraction(value: float) -> RuntimeFractionalPercent:
    """The same, in the form that could be overridden at run time (nothing of ours does)."""
    return RuntimeFractionalPercent(default_value=fraction(value))


def runtime_double(value: float, key: str) -> RuntimeDouble:
    """A number that could be overridden at run time under a key, which Envoy asks for (nothing of ours does)."""
    return RuntimeDouble(default_value=value, runtime_key=key)


def extension(name: str, message: Message) -> TypedExtensionConfig:
    """An extension by its name and configuration."""
    return TypedExtensionConfig(name=name, typed_config=any_of(message))


def transport_socket(name: str, message: Message) -> TransportSocket:
    """A transport socket by its name and configuration."""
    return TransportSocket(name=name, typed_config=any_of(message))


def ads() -> ConfigSource:
    """What comes over the one stream from the control plane."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def address(host: str, port: int) -> Address:
    """A TCP address, or the socket that a `unix://` path names."""
    if host.startswith("unix://"):
        return Address(pipe=Pipe(path=host.removeprefix("unix://")))
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def cidr(text: str) -> CidrRange:
    """A CIDR block; a lone address is a block of one. Raises ValueError for anything else."""
    network = ipaddress.ip_network(text, strict=False)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=uint32(network.prefixlen))
