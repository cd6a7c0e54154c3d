"""Writes capture rules into the kernel as nftables messages, without the `nft` program.

One batch makes the table, its chains and its rules: the kernel applies all of it or nothing. A rule is a list of
expressions over registers: load a field of the packet, compare it, and give a verdict.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

from meltemi.local.capture import (
    ENVOY_MARK,
    IN_REDIRECT,
    INBOUND,
    OUTBOUND,
    OUTPUT,
    PREROUTING,
    REDIRECT,
    Jump,
    Match,
    Redirect,
    Rule,
    Verdict,
)
from meltemi.local.netlink import Flag, Message, NetlinkSocket, Protocol, attribute, nested, text

TABLE = "istio-proxy-nat"

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM << 8 | number for number in (0, 3, 6))
_HOOKS = {PREROUTING: (0, -100), OUTPUT: (3, -100)}  # the hook's number and NF_IP_PRI_NAT_DST
_REGISTER = 1
_EQUAL, _NOT_EQUAL = 0, 1
_META_MARK, _META_OIFNAME, _META_L4PROTO = 3, 7, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_SOURCE_OFFSET, _DESTINATION_OFFSET, _DESTINATION_PORT_OFFSET = 12, 16, 2
_RETURN, _JUMP = -5, -3
_INTERFACE_NAME_SIZE = 16


def write_rules(rules: Sequence[Rule]) -> None:
    """Puts the rules into the network namespace in which the calling thread is. Raises OSError if the kernel refuses."""
    with NetlinkSocket(Protocol.NETFILTER) as netlink:
        netlink.transact(_batch(_BATCH_BEGIN), list(_messages(rules)), _batch(_BATCH_END))


def _messages(rules: Sequence[Rule]) -> Iterator[Message]:
    yield Message(_NEW_TABLE, _head() + text(1, TABLE), Flag.CREATE | Flag.EXCLUSIVE)
    for chain in (INBOUND, REDIRECT, IN_REDIRECT, OUTBOUND):
        yield Message(_NEW_CHAIN, _head() + text(1, TABLE) + text(3, chain), Flag.CREATE)
    for chain, (hook, priority) in _HOOKS.items():
        where = nested(4, attribute(1, _big(hook)), attribute(2, _big(priority)))
        body = _head() + text(1, TABLE) + text(3, chain) + where + text(7, "nat")
        yield Message(_NEW_CHAIN, body, Flag.CREATE)
    for rule in rules:
        expressions = nested(4, *_expressions(rule))
        yield Message(
            _NEW_RULE, _head() + text(1, TABLE) + text(2, rule.chain) + expressions, Flag.CREATE | Flag.APPEND
        )


def _expressions(rule: Rule) -> Iterator[bytes]:
    yield _meta(_META_L4PROTO)
    yield _compare(bytes([socket.IPPROTO_UDP if rule.match.udp else socket.IPPROTO_TCP]))
    yield from _conditions(rule.match)
    yield from _verdict(rule.verdict)


def _conditions(match: Match) -> Iterator[bytes]:
    if match.output_loopback:
        yield _meta(_META_OIFNAME)
        yield _compare(b"lo".ljust(_INTERFACE_NAME_SIZE, b"\0"))
    if match.source is not None:
        yield from _within(_SOURCE_OFFSET, match.source)
    if match.destination is not None:
        yield from _within(_DESTINATION_OFFSET, match.destination)
    if match.destination_is_not is not None:
        yield from _within(_DESTINATION_OFFSET, match.destination_is_not, _NOT_EQUAL)
    if match.port is not None:
        yield _load(_TRANSPORT_HEADER, _DESTINATION_PORT_OFFSET, 2)
        yield _compare(struct.pack("!H", match.port))
    if match.port_is_not is not None:
        yield _load(_TRANSPORT_HEADER, _DESTINATION_PORT_OFFSET, 2)
        yield _compare(struct.pack("!H", match.port_is_not), _NOT_EQUAL)
    if match.marked is not None:
        yield _meta(_META_MARK)
        yield _compare(struct.pack("=I", ENVOY_MARK), _EQUAL if match.marked else _NOT_EQUAL)


def _verdict(verdict: Verdict) -> Iterator[bytes]:
    if isinstance(verdict, Redirect):
        port = nested(2, attribute(1, struct.pack("!H", verdict.port)))
        yield _expression("immediate", attribute(1, _big(_REGISTER)) + port)
        yield _expression("redir", attribute(1, _big(_REGISTER)) + attribute(3, _big(2)))
        return
    code = attribute(1, _big(_RETURN))
    if isinstance(verdict, Jump):
        code = attribute(1, _big(_JUMP)) + text(2, verdict.chain)
    yield _expression("immediate", attribute(1, _big(0)) + nested(2, nested(2, code)))


def _within(offset: int, network: IPv4Network, operation: int = _EQUAL) -> Iterator[bytes]:
    yield _load(_NETWORK_HEADER, offset, 4)
    if network.prefixlen < 32:
        mask = nested(4, attribute(1, network.netmask.packed))
        nothing = nested(5, attribute(1, bytes(4)))
        registers = attribute(1, _big(_REGISTER)) + attribute(2, _big(_REGISTER)) + attribute(3, _big(4))
        yield _expression("bitwise", registers + mask + nothing)
    yield _compare(network.network_address.packed, operation)


def _load(base: int, offset: int, length: int) -> bytes:
    values = (_REGISTER, base, offset, length)
    return _expression("payload", b"".join(attribute(kind, _big(value)) for kind, value in enumerate(values, 1)))


def _meta(key: int) -> bytes:
    return _expression("meta", attribute(1, _big(_REGISTER)) + attribute(2, _big(key)))


def _compare(value: bytes, operation: int = _EQUAL) -> bytes:
    data = attribute(1, _big(_REGISTER)) + attribute(2, _big(operation)) + nested(3, attribute(1, value))
    return _expression("cmp", data)


def _expression(name: str, data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, data))


def _head() -> bytes:
    return struct.pack("!BBH", socket.AF_INET, 0, 0)


def _batch(kind: int) -> Message:
    return Message(kind, struct.pack("!BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM))


def _big(value: int) -> bytes:
    return struct.pack("!i", value)
