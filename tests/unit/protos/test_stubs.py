"""Type checkers see the private modules, and a wrong field is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from meltemi.protos import stubs
from meltemi.protos.archive import files


def test_stubs_import_only_the_private_package_and_protobufs_runtime(tmp_path: Path) -> None:
    stale = tmp_path / "envoy" / "gone_pb2.pyi"
    stale.parent.mkdir()
    stale.touch()
    count = stubs.write(tmp_path)
    assert not stale.exists()
    assert count == len(list(tmp_path.rglob("*.pyi"))) == sum(name.startswith(stubs.TYPED) for name in files())
    modules = {
        module
        for stub in tmp_path.rglob("*.pyi")
        for module in re.findall(r"^from ([\w.]+) import \w+_pb2 ", stub.read_text(), re.MULTILINE)
    }
    assert {module for module in modules if not module.startswith("meltemi.protos.")} == set()


def test_mypy_accepts_right_use_and_flags_wrong_fields(tmp_path: Path) -> None:
    module = tmp_path / "use.py"
    module.write_text(
        "from meltemi.protos import any_of, from_dict\n"
        "from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster\n"
        "from meltemi.protos.google.protobuf.duration_pb2 import Duration\n"
        "c = from_dict(Cluster, {})\n"
        "c.connect_timeout.CopyFrom(Duration(seconds=1))\n"
        "any_of(Cluster(name='a', type=Cluster.EDS)).Unpack(c)\n"
        "c.nam = 'a'\n"
        "Cluster(conect_timeout=Duration())\n"
        "Cluster(type='EDS')\n"
        "c.HasField('conect_timeout')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    environment = {"MYPYPATH": str(stubs.PACKAGE.parents[1]), "PATH": ""}
    done = subprocess.run(
        [*command, "--explicit-package-bases", module],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    flagged = [int(line) for line in re.findall(r"use\.py:(\d+): error", done.stdout)]
    assert flagged == [7, 8, 9, 10], done.stdout + done.stderr
