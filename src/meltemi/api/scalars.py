"""The scalar types of the API, each with the bounds that the schema states and the decoder enforces.

A type is an annotated `str`, `int` or `float`: values stay plain, and the bounds are in one place for decoding,
schemas and messages alike. The texts under `extra` are for people: what is expected, and how to write it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

DURATION_PATTERN = r"^(0|-?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$"

Duration = Annotated[
    str,
    Meta(
        pattern=DURATION_PATTERN,
        extra={"expected": "a duration", "hint": "write a number with a unit, such as 5s, 250ms or 1h30m"},
    ),
]
"""A duration as text in Go's and protobuf's notation; `base.durations.parse_duration` reads it."""

Port = Annotated[
    int, Meta(ge=1, le=65535, extra={"expected": "a port number", "hint": "write a number from 1 to 65535"})
]
"""A TCP or UDP port."""

PortOrZero = Annotated[
    int, Meta(ge=0, le=65535, extra={"expected": "a port number", "hint": "write a number from 1 to 65535"})
]
"""A port, or 0 where none is said."""

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""protobuf's `int32`."""

UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""protobuf's `uint32`."""

UInt64 = Annotated[int, Meta(ge=0)]
"""protobuf's `uint64`."""

Percentage = Annotated[
    float, Meta(ge=0, le=100, extra={"expected": "a percentage", "hint": "write a number from 0 to 100"})
]
"""Percent, from 0 to 100."""

PercentInt = Annotated[
    int, Meta(ge=0, le=100, extra={"expected": "a percentage", "hint": "write a whole number from 0 to 100"})
]
"""Whole percent, from 0 to 100."""

Weight = Annotated[
    int, Meta(ge=0, le=2**31 - 1, extra={"expected": "a weight", "hint": "write a whole number, 0 or more"})
]
"""A share of the traffic, relative to the sum of all shares."""

HttpStatus = Annotated[
    int, Meta(ge=100, le=599, extra={"expected": "an HTTP status", "hint": "write a number from 100 to 599"})
]
"""An HTTP status code."""

IntOrString = int | str
"""A number, or the name of one (Kubernetes' `IntOrString`)."""
