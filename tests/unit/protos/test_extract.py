"""The archive is what the Envoy binary carries, and extraction says clearly when it cannot be had."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from meltemi.protos import ENVOY_VERSION, extract
from meltemi.protos.archive import ARCHIVE, files


def descriptor(name: str, *dependencies: str, package: str = "", message: str = "M") -> bytes:
    file = FileDescriptorProto(name=name, package=package or "p", dependency=dependencies, syntax="proto3")
    file.message_type.add(name=message)
    return file.SerializeToString()


def binary(folder: Path, *parts: bytes) -> Path:
    path = folder / "envoy"
    path.write_bytes(b"\x7fELF".join([b"", *parts, b"\x00" * 16]))
    return path


def program(folder: Path, version: str) -> Path:
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\necho 'envoy  version: 9e55809/{version}/Clean/RELEASE/BoringSSL'\n")
    path.chmod(0o755)
    return path


def test_the_archive_is_what_extraction_gives() -> None:
    assert extract.main(["--check"]) == 0


def test_the_archive_is_complete_and_ours_are_in_it() -> None:
    assert len(files()) > 550
    assert "istio/v1/auth/ca.proto" in files()
    extract.check_closed({name: bytes(data) for name, data in files().items()})


def test_an_archive_out_of_date_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = FileDescriptorSet.FromString(lzma.decompress(ARCHIVE.read_bytes()))
    del whole.file[-1]
    old = tmp_path / "old.xz"
    old.write_bytes(lzma.compress(whole.SerializeToString()))
    monkeypatch.setattr(extract, "ARCHIVE", old)
    assert extract.main(["--check"]) == 1
    assert "out of date: run python -m meltemi.protos.extract" in capsys.readouterr().err
    assert extract.main([]) == 0
    assert lzma.decompress(old.read_bytes()) == lzma.decompress(ARCHIVE.read_bytes())


def test_descriptors_are_found_among_other_bytes(tmp_path: Path) -> None:
    a, b = descriptor("a/a.proto"), descriptor("b.proto", "a/a.proto")
    assert extract.scan(binary(tmp_path, b"\x0a\x07a.proto", a, b"b.proto\x00", b)) == {"a/a.proto": a, "b.proto": b}


def test_adjacent_descriptors_are_told_apart(tmp_path: Path) -> None:
    a, b = descriptor("a.proto"), descriptor("b.proto")
    assert extract.scan(binary(tmp_path, a + b)) == {"a.proto": a, "b.proto": b}


def test_the_longest_copy_of_a_file_is_taken(tmp_path: Path) -> None:
    short, long = descriptor("a.proto", message="M"), descriptor("a.proto", message="Message")
    assert extract.scan(binary(tmp_path, short, long, short)) == {"a.proto": long}


def test_a_binary_without_descriptors_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(extract.ExtractionError, match="stripped or compressed"):
        extract.scan(binary(tmp_path, b"nothing"))


def test_another_release_of_envoy_is_refused_with_what_to_do(tmp_path: Path) -> None:
    extract.check_version(program(tmp_path, ENVOY_VERSION))
    with pytest.raises(extract.ExtractionError, match=r"is Envoy 1\.39\.0, the archive is for .*: for another release"):
        extract.check_version(program(tmp_path, "1.39.0"))


def test_a_missing_dependency_is_named() -> None:
    with pytest.raises(extract.ExtractionError, match=r"without b\.proto"):
        extract.check_closed({"a.proto": descriptor("a.proto", "b.proto")})


def test_a_damaged_file_is_named() -> None:
    file = FileDescriptorProto(name="a.proto", syntax="proto3")
    file.message_type.add(name="M").field.add(name="f", number=1, type_name=".p.Nothing")
    with pytest.raises(extract.ExtractionError, match=r"a\.proto is damaged"):
        extract.check_closed({"a.proto": file.SerializeToString()})


def test_files_are_in_order_of_their_names() -> None:
    a, b = descriptor("a.proto"), descriptor("b.proto")
    assert extract.serialise({"b.proto": b, "a.proto": a}) == extract.serialise({"a.proto": a, "b.proto": b})
