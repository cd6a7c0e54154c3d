"""The secret discovery service, told with lists of messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from meltemi.agent.framing import MalformedError
from meltemi.agent.sds import TYPE_URL, Delta, StateOfTheWorld
from meltemi.agent.secrets import FileSecrets, Secrets, bundle, key_pair, roots_secret
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

OLD, NEW, ROOTS = (
    key_pair("default", b"old chain", b"old key"),
    key_pair("default", b"new chain", b"new key"),
    roots_secret("ROOTCA", b"roots"),
)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(FileSecrets(str(tmp_path)))


class World:
    """A `StreamSecrets` stream."""

    def __init__(self, secrets: Secrets) -> None:
        self.sent: list[DiscoveryResponse] = []
        self.stream = StateOfTheWorld(secrets, lambda message: self.sent.append(DiscoveryResponse.FromString(message)))

    def ask(self, *names: str, nonce: str = "", error: str = "") -> None:
        request = DiscoveryRequest(type_url=TYPE_URL, resource_names=names, response_nonce=nonce)
        if error:
            request.error_detail.message = error
        self.stream.received(request.SerializeToString())

    @property
    def chains(self) -> list[bytes]:
        """The certificate chain of each response's first secret."""
        return [
            Secret.FromString(response.resources[0].value).tls_certificate.certificate_chain.inline_bytes
            for response in self.sent
        ]


class Deltas:
    """A `DeltaSecrets` stream."""

    def __init__(self, secrets: Secrets) -> None:
        self.sent: list[DeltaDiscoveryResponse] = []
        self.stream = Delta(secrets, lambda message: self.sent.append(DeltaDiscoveryResponse.FromString(message)))

    def ask(self, **fields: object) -> None:
        self.stream.received(DeltaDiscoveryRequest(type_url=TYPE_URL, **fields).SerializeToString())  # type: ignore[arg-type]

    @property
    def names(self) -> list[list[str]]:
        return [[resource.name for resource in response.resources] for response in self.sent]


def test_what_is_there_is_sent_at_once(secrets: Secrets) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    assert world.chains == [b"old chain"]


def test_what_is_not_there_yet_is_waited_for_in_silence(secrets: Secrets) -> None:
    world = World(secrets)
    world.ask("default")
    assert world.sent == []
    secrets.put(OLD, ROOTS)
    assert world.chains == [b"old chain"]


def test_a_rotation_is_sent_unasked(secrets: Secrets) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    world.ask("default", nonce=world.sent[0].nonce)
    secrets.put(NEW)
    assert world.chains == [b"old chain", b"new chain"]


def test_an_acknowledgement_is_not_answered(secrets: Secrets) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    world.ask("default", nonce=world.sent[0].nonce)
    assert len(world.sent) == 1


def test_a_refusal_is_not_answered_with_the_same_again(secrets: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    world.ask("default", nonce=world.sent[0].nonce, error="key does not match")
    assert len(world.sent) == 1
    assert "key does not match" in caplog.text
    secrets.put(NEW)
    assert len(world.sent) == 2


def test_an_answer_to_an_older_response_changes_nothing(secrets: Secrets) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    secrets.put(NEW)
    world.ask(nonce=world.sent[0].nonce)
    secrets.put(OLD)
    assert len(world.sent) == 3


def test_the_same_secret_again_is_no_change(secrets: Secrets) -> None:
    secrets.put(OLD)
    world = World(secrets)
    world.ask("default")
    secrets.put(OLD)
    assert len(world.sent) == 1


def test_after_its_end_a_stream_hears_nothing(secrets: Secrets) -> None:
    world = World(secrets)
    world.ask("default")
    world.stream.closed()
    secrets.put(OLD)
    assert world.sent == []


def test_delta_sends_only_what_changed(secrets: Secrets) -> None:
    secrets.put(OLD, ROOTS)
    deltas = Deltas(secrets)
    deltas.ask(resource_names_subscribe=["default", "ROOTCA"])
    secrets.put(NEW)
    assert deltas.names == [["ROOTCA", "default"], ["default"]]


def test_delta_does_not_send_what_is_there_from_before(secrets: Secrets) -> None:
    secrets.put(NEW, ROOTS)
    deltas = Deltas(secrets)
    deltas.ask(
        resource_names_subscribe=["default", "ROOTCA"],
        initial_resource_versions={"default": OLD.version, "ROOTCA": ROOTS.version},
    )
    assert deltas.names == [["default"]]


def test_delta_subscribed_again_is_sent_again(secrets: Secrets) -> None:
    secrets.put(OLD)
    deltas = Deltas(secrets)
    deltas.ask(resource_names_subscribe=["default"])
    deltas.ask(resource_names_subscribe=["default"])
    assert deltas.names == [["default"], ["default"]]


def test_delta_unsubscribed_is_not_sent(secrets: Secrets) -> None:
    deltas = Deltas(secrets)
    deltas.ask(resource_names_subscribe=["default"])
    deltas.ask(resource_names_unsubscribe=["default"])
    secrets.put(OLD)
    assert deltas.sent == []


@pytest.mark.parametrize("dialect", [World, Deltas])
def test_garbage_ends_the_stream_and_not_the_agent(secrets: Secrets, dialect: type[World] | type[Deltas]) -> None:
    with pytest.raises(MalformedError):
        dialect(secrets).stream.received(b"\x0b")


# === files ===


def test_file_secrets_are_read_when_asked_for_and_again_when_they_change(secrets: Secrets, tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_bytes(b"chain 1")
    (tmp_path / "key.pem").write_bytes(b"key")
    world = World(secrets)
    world.ask("file-cert:/chain.pem~/key.pem")
    assert world.chains == [b"chain 1"]
    (tmp_path / "chain.pem").write_bytes(b"chain 2")
    secrets.refresh()
    secrets.refresh()
    assert world.chains == [b"chain 1", b"chain 2"]


def test_a_file_that_comes_later_is_served_then(
    secrets: Secrets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deltas = Deltas(secrets)
    deltas.ask(resource_names_subscribe=["file-root:/ca.pem"])
    secrets.refresh()
    assert deltas.sent == []
    assert caplog.text.count("cannot serve file-root:/ca.pem") == 1
    (tmp_path / "ca.pem").write_bytes(b"ca")
    secrets.refresh()
    assert deltas.names == [["file-root:/ca.pem"]]


def test_files_of_others_are_not_served(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "foreign.pem").write_bytes(b"x")
    (own / "link.pem").symlink_to(tmp_path / "foreign.pem")
    files = FileSecrets(str(own))
    for path in ("/../foreign.pem", "/link.pem"):
        with pytest.raises(PermissionError):
            files.load(f"file-root:{path}")
    with pytest.raises(PermissionError):
        FileSecrets("").load("file-root:/etc/hostname")


# === the values ===


def test_a_bundle_holds_every_certificate_once() -> None:
    one, two = (f"-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n".encode() for n in ("a", "b"))
    assert bundle(one + two, b"# note\r\n" + two.replace(b"\n", b"\r\n"), b"") == one + two


def test_a_secret_shows_neither_key_nor_body() -> None:
    assert repr(OLD) == f"<Secret default {OLD.version}>"
