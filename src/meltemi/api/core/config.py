"""ConfigMap and Secret. Source: Kubernetes core/v1.

A Secret's data is kept in `Sealed` values, which show nothing of themselves in a representation, a log line or a
message: the bytes come out through `reveal()` alone, so that every place that reads them can be found by that name.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from typing import Self

from meltemi.api.meta import Resource


class Sealed:
    """Bytes that must not be shown."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    @classmethod
    def from_wire(cls, text: str) -> Self:
        """Reads the wire form, base64. Raises ValueError, which does not quote the text, if it is not that."""
        try:
            return cls(b64decode("".join(text.split()), validate=True))
        except ValueError:
            raise ValueError("the value is not base64") from None

    def to_wire(self) -> str:
        """The wire form."""
        return b64encode(self._value).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Sealed, self._value))

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "<Sealed>"

    def __reduce__(self) -> str:
        raise TypeError("a sealed value is not written anywhere")


class SealedText(Sealed):
    """A sealed value whose wire form is the text itself, as users write it in `stringData`."""

    __slots__ = ()

    @classmethod
    def from_wire(cls, text: str) -> Self:
        """Takes the text as it is."""
        return cls(text.encode())

    def to_wire(self) -> str:
        """The text."""
        return self._value.decode()


class ConfigMap(Resource, frozen=True, kw_only=True):
    """Configuration of applications: texts, and bytes in base64."""

    data: dict[str, str] = {}
    binary_data: dict[str, bytes] = {}
    immutable: bool = False


class Secret(Resource, frozen=True, kw_only=True):
    """Secrets of applications and gateways. `string_data` is what a user writes in clear."""

    type: str = "Opaque"
    data: dict[str, Sealed] = {}
    string_data: dict[str, SealedText] = {}
    immutable: bool = False

    @property
    def values(self) -> dict[str, Sealed]:
        """All values by key; those written in clear come before those in base64."""
        return {**self.data, **self.string_data}
