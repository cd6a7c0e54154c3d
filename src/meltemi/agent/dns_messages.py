"""Pieces of DNS messages that everybody here who answers needs: queries read, records, sizes and failures (RFC 1035)."""

from __future__ import annotations

from ipaddress import ip_address

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSHeader, DNSRecord

TTL = 5
"""For how many seconds an answer is good: names change with their pods."""

_SMALLEST_PACKET = 512
_LARGEST_PACKET = 1232


def query_in(packet: bytes) -> DNSRecord | None:
    """The query in a packet, or None if it has none, or not exactly one question."""
    try:
        asked = DNSRecord.parse(packet)
    except Exception:  # dnslib raises what it likes for a packet that is none.
        return None
    return None if asked.header.qr or len(asked.questions) != 1 else asked


def address_record(name: str, ip: str) -> RR:
    """An A or AAAA record."""
    if ip_address(ip).version == 6:
        return RR(name, QTYPE.AAAA, rdata=AAAA(ip), ttl=TTL)
    return RR(name, QTYPE.A, rdata=A(ip), ttl=TTL)


def packed(reply: DNSRecord, asked: DNSRecord, *, over_tcp: bool) -> bytes:
    """A reply as bytes; over UDP cut to what the client can take, which it then says (TC)."""
    whole = bytes(reply.pack())
    return whole if over_tcp or len(whole) <= _room(asked) else bytes(reply.truncate().pack())


def _room(asked: DNSRecord) -> int:
    """How large an answer over UDP may be: what the client says (EDNS, RFC 6891), within reason."""
    offered = [record.edns_len for record in asked.ar if record.rtype == QTYPE.OPT]
    return min(max(offered[0], _SMALLEST_PACKET), _LARGEST_PACKET) if offered else _SMALLEST_PACKET


def failure(query: bytes) -> bytes | None:
    """SERVFAIL for a query that nobody could answer, or None for a packet that is no query."""
    try:
        asked = DNSRecord.parse(query)
    except Exception:  # dnslib raises what it likes for a packet that is none.
        return None
    header = DNSHeader(id=asked.header.id, qr=1, ra=1, rd=asked.header.rd, rcode=RCODE.SERVFAIL)
    return bytes(DNSRecord(header, q=asked.q).pack())


def completed(answer: bytes, others: bytes) -> bytes:
    """An answer that is an alias, with what others say of the name that it stands for."""
    told = DNSRecord.parse(answer)
    told.auth = []
    for record in DNSRecord.parse(others).rr:
        told.add_answer(record)
    return bytes(told.pack())
