"""HTTP/3: what a gateway's server answers over TCP, it answers over QUIC as well.

QUIC has a listener of its own on the same port of UDP, made of the chains that stand in the TCP listener: the same
certificates, filters and routes, so that neither can say anything that the other does not. Clients come over TCP first,
and learn from a header of each answer that they may come the other way.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from meltemi.envoy import names
from meltemi.envoy.values import address, duration, transport_socket
from meltemi.protos import any_of
from meltemi.protos.envoy.config.core.v3.address_pb2 import SocketAddress
from meltemi.protos.envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption, TrafficDirection
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.protos.envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

SOCKET = "envoy.transport_sockets.quic"
ALPN = "h3"
REMEMBERED = timedelta(days=1)
"""For how long a client may come over QUIC without asking over TCP again."""


def announcement(port: int) -> HeaderValueOption:
    """The header that tells clients where HTTP/3 is spoken (RFC 7838). What a server behind says of itself gives way."""
    value = f'{ALPN}=":{port}"; ma={int(REMEMBERED.total_seconds())}'
    return HeaderValueOption(
        header=HeaderValue(key="alt-svc", value=value), append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    )


def listener(bind: str, port: int, chains: Iterable[FilterChain], handshake: timedelta) -> Listener:
    """The listener `udp_<address>_<port>` of these chains of the TCP listener, over QUIC."""
    message = Listener(
        name=names.udp_listener(bind, port),
        address=address(bind, port),
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=map(_over_quic, chains),
    )
    message.address.socket_address.protocol = SocketAddress.UDP
    message.udp_listener_config.quic_options.crypto_handshake_timeout.CopyFrom(duration(handshake))
    return message


def _over_quic(chain: FilterChain) -> FilterChain:
    message = FilterChain()
    message.CopyFrom(chain)
    message.ClearField("transport_socket_connect_timeout")  # of TCP alone
    if message.HasField("filter_chain_match"):
        message.filter_chain_match.transport_protocol = "quic"
    context = DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
    context.common_tls_context.alpn_protocols[:] = [ALPN]
    transport = QuicDownstreamTransport(downstream_tls_context=context)
    message.transport_socket.CopyFrom(transport_socket(SOCKET, transport))
    manager = HttpConnectionManager.FromString(message.filters[-1].typed_config.value)
    manager.codec_type = HttpConnectionManager.HTTP3
    manager.http3_protocol_options.allow_extended_connect = True
    message.filters[-1].typed_config.CopyFrom(any_of(manager))
    return message
