"""Durations as users write them ("1h30m", "250ms", "0.5s") and the three-way meaning of a timeout."""

from __future__ import annotations

import re
from datetime import timedelta

import msgspec

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"-?(?:{_PART.pattern})+")


def parse_duration(text: str) -> timedelta:
    """A duration in Go's and protobuf's notation, as Istio and Kubernetes accept it.

    Raises ValueError, with a message fit for users, if the text is not a duration.
    """
    if text == "0":
        return timedelta()
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration (write a number with a unit, such as 5s, 250ms or 1h30m)")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def format_duration(value: timedelta) -> str:
    """The shortest protobuf notation of a duration: seconds with as many decimals as needed, and an `s`."""
    micros = round(value.total_seconds() * 1_000_000)
    whole, rest = divmod(abs(micros), 1_000_000)
    decimals = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if micros < 0 else ''}{whole}{decimals}s"


class Timeout(msgspec.Struct, frozen=True, gc=False):
    """Exactly one of: the default applies, the timeout is switched off, or a duration.

    It ends the ambiguity of "0", which is "off" in Envoy and Istio and "not set" in many a decoder.
    """

    duration: timedelta | None = None
    disabled: bool = False

    @classmethod
    def default(cls) -> Timeout:
        """Nothing was said: what stands elsewhere applies."""
        return cls()

    @classmethod
    def off(cls) -> Timeout:
        """Asked for: no timeout."""
        return cls(disabled=True)

    @classmethod
    def of(cls, duration: timedelta) -> Timeout:
        """A timeout after `duration`; zero switches it off, as in Envoy."""
        return cls(duration=duration) if duration > timedelta() else cls.off()

    @property
    def is_default(self) -> bool:
        """Whether nothing was said."""
        return self.duration is None and not self.disabled

    def or_else(self, fallback: Timeout) -> Timeout:
        """This timeout, or `fallback` where nothing was said."""
        return fallback if self.is_default else self
