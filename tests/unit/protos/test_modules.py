"""Modules of the API exist without generated code, and hold what protoc's would."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from meltemi.protos import pool
from meltemi.protos.archive import files
from meltemi.protos.envoy.config.cluster.v3 import cluster_pb2
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3 import base_pb2
from meltemi.protos.google.protobuf.any_pb2 import Any
from meltemi.protos.google.protobuf.duration_pb2 import Duration
from meltemi.protos.google.protobuf.struct_pb2 import Struct
from meltemi.protos.google.protobuf.timestamp_pb2 import Timestamp
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from meltemi.protos.modules import module_of
from meltemi.protos.validate import validate_pb2


def test_every_file_of_the_api_can_be_imported_and_every_name_made() -> None:
    for file in files():
        module = importlib.import_module(module_of(file))
        assert module.DESCRIPTOR.name == file
        assert all(getattr(module, name) is not None for name in dir(module) if name[0] != "_")


def test_a_class_is_the_same_by_every_road() -> None:
    assert GetMessageClass(pool.FindMessageTypeByName("envoy.config.cluster.v3.Cluster")) is Cluster
    assert cluster_pb2.Cluster is Cluster
    assert type(cluster_pb2.ClusterCollection().entries) is not None


def test_enums_have_their_names_and_values() -> None:
    assert base_pb2.RequestMethod.Name(base_pb2.POST) == "POST"
    assert base_pb2.RequestMethod.Value("GET") == base_pb2.GET == 1
    assert Cluster.DiscoveryType.Name(Cluster.EDS) == "EDS"


def test_extensions_are_there() -> None:
    assert validate_pb2.rules.number == validate_pb2.RULES_FIELD_NUMBER == 1071


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_the_module() -> None:
    with pytest.raises(AttributeError, match="cluster_pb2' has no attribute 'Clutser'"):
        cluster_pb2.Clutser  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["envoy.config.nothing_pb2", "nothing", "envoy.nothing"])
def test_a_module_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name.rpartition(".")[2]):
        importlib.import_module(f"meltemi.protos.{name}")


def test_a_dash_in_a_files_name_becomes_an_underscore() -> None:
    assert module_of("language-agent/Tracing.proto") == "meltemi.protos.language_agent.Tracing_pb2"


def test_well_known_types_behave_as_protobufs_own() -> None:
    duration = Duration()
    duration.FromTimedelta(timedelta(milliseconds=1500))
    assert (duration.ToJsonString(), duration.ToTimedelta()) == ("1.500s", timedelta(seconds=1.5))
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
    assert timestamp.ToJsonString() == "2026-01-02T00:00:00Z"
    struct = Struct()
    struct.update({"a": {"b": [1, None, True]}})
    assert struct.fields["a"].struct_value.fields["b"].list_value.values[0].number_value == 1
    packed = Any()
    packed.Pack(Cluster(name="cart"))
    unpacked = Cluster()
    assert packed.Is(Cluster.DESCRIPTOR)
    assert packed.Unpack(unpacked)
    assert unpacked.name == "cart"


def test_messages_can_be_copied_and_pickled() -> None:
    cluster = Cluster(name="cart", type=Cluster.EDS)
    assert pickle.loads(pickle.dumps(cluster)) == cluster
    assert copy.deepcopy(cluster) == cluster
    assert repr(Cluster) == "<class 'meltemi.protos.envoy.config.cluster.v3.cluster_pb2.Cluster'>"


def test_nothing_enters_protobufs_default_pool() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("envoy.config.cluster.v3.Cluster")


def test_the_certificate_service_speaks_istios_wire_format() -> None:
    request = IstioCertificateRequest(csr="pem", validity_duration=60)
    assert request.SerializeToString() == b"\x0a\x03pem\x18\x3c"
    assert IstioCertificateResponse(cert_chain=["a", "b"]).SerializeToString() == b"\x0a\x01a\x0a\x01b"


def test_only_what_is_asked_for_is_parsed() -> None:
    program = """
import sys
from meltemi.protos.envoy.service.secret.v3 import sds_pb2
from google.protobuf.internal import api_implementation
import meltemi.protos.archive as archive
assert archive._symbols.cache_info().currsize == 0, "a symbol was searched for"
assert "grpc" not in sys.modules, "gRPC was imported"
assert "meltemi.protos.envoy.config.route.v3.route_components_pb2" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)})
