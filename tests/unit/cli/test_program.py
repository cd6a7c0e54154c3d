"""The program as a whole: help, where it looks for a mesh, completion, versions, up and down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from meltemi.cli import main
from meltemi.cli.commands import COMMANDS
from meltemi.cli.failures import Failure
from meltemi.cli.lazy import Verb
from meltemi.cli.main import cli
from meltemi.cli.surroundings import Choice, Surroundings

from .conftest import Mesh, pod, virtual_service

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
contexts: [{{name: a, context: {{cluster: c, namespace: shop}}}}, {{name: b, context: {{cluster: c}}}}]
current-context: a
"""


def kubeconfig(path: Path, server: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(KUBECONFIG.format(server=server))
    return path


# === help ===


def test_the_help_is_written_without_importing_any_verb_or_heavy_library() -> None:
    heavy = {"grpc", "google.protobuf", "aiohttp", "rich", "yaml", "msgspec", "asyncio", "meltemi.cli.verbs"}
    code = f"import sys; from meltemi.cli.main import run; run(['--help']); print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert told.stdout.splitlines()[-1] == "set()"
    for command in COMMANDS:
        assert f"  {command.name} " in told.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_verb_has_help_with_examples_and_its_exit_status(command: Any, mesh: Mesh) -> None:
    told = mesh.run(command.name, "--help")
    assert told.status == 0
    assert "\nExamples:\n" in told.out
    assert "\nExit status:\n" in told.out
    verb = cli.get_command(click.Context(cli), command.name)
    assert isinstance(verb, Verb)
    assert all(command.name in example for example in verb.examples)


def test_an_unknown_verb_is_answered_with_the_closest(mesh: Mesh) -> None:
    told = mesh.run("proxy-stat")
    assert told.status == 2
    assert told.err.startswith("error: no such command 'proxy-stat'. Did you mean")


def test_without_a_verb_the_help_is_shown(mesh: Mesh) -> None:
    told = mesh.run()
    assert told.status == 2
    assert "What you write:" in told.err


# === where the mesh is ===


def around(tmp_path: Path, *running: str, **environ: str) -> Surroundings:
    for name in running:
        kubeconfig(tmp_path / "home" / name / "kubeconfig", f"https://127.0.0.1/{name}")
    return Surroundings(
        {"MELTEMI_HOME": str(tmp_path / "home"), **environ}, lambda directory: directory.name in running
    )


def test_a_running_mesh_goes_before_a_kubeconfig_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(kubeconfig(tmp_path / "other", "https://elsewhere"))
    monkeypatch.setenv("KUBECONFIG", other)
    assert around(tmp_path, KUBECONFIG=other).find(Choice()).name == "https://elsewhere"
    assert around(tmp_path, "local", KUBECONFIG=other).find(Choice()).mesh == "local"


def test_what_the_user_names_goes_before_a_running_mesh(tmp_path: Path) -> None:
    other = str(kubeconfig(tmp_path / "other", "https://elsewhere"))
    found = around(tmp_path, "local").find(Choice(kubeconfig=other, context="b"))
    assert (found.name, found.connection.namespace) == ("b", "default")
    assert around(tmp_path, "local").find(Choice(kubeconfig=other)).connection.namespace == "shop"


def test_the_kubeconfig_of_a_mesh_on_this_machine_is_known_as_such(tmp_path: Path) -> None:
    here = around(tmp_path, "local")
    assert here.find(Choice(kubeconfig=str(tmp_path / "home" / "local" / "kubeconfig"))).mesh == "local"


def test_a_mesh_that_is_not_running_is_passed_over(tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home" / "old" / "kubeconfig", "https://127.0.0.1/old")
    with pytest.raises(Failure, match="no mesh is running") as caught:
        around(tmp_path).find(Choice())
    assert "meltemi up" in caught.value.hint


def test_of_several_meshes_one_has_to_be_named_unless_one_is_local(tmp_path: Path) -> None:
    assert around(tmp_path, "local", "second").find(Choice()).mesh == "local"
    assert around(tmp_path, "local", "second").find(Choice(mesh="second")).mesh == "second"
    with pytest.raises(Failure, match="several meshes are running here: second, third"):
        around(tmp_path, "second", "third").find(Choice())
    with pytest.raises(Failure, match="the mesh 'forth' is not running"):
        around(tmp_path, "second").find(Choice(mesh="forth"))


# === completion ===


def complete(mesh: Mesh, *words: str, incomplete: str = "") -> list[str]:
    from click.shell_completion import ShellComplete

    completer = ShellComplete(cli, {"obj": mesh.surroundings}, "meltemi", "_MELTEMI_COMPLETE")
    return [item.value for item in completer.get_completions(list(words), incomplete)]


def test_verbs_are_completed(mesh: Mesh) -> None:
    assert complete(mesh, incomplete="proxy") == ["proxy-status", "proxy-config"]


def test_kinds_and_then_names_are_completed(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.put(virtual_service())
    assert complete(mesh, "get", incomplete="virt") == ["virtualservices"]
    assert complete(mesh, "get", "-n", "bookshop", "vs") == ["reviews"]
    assert complete(mesh, "get", "-n", "bookshop", incomplete="vs/") == ["vs/reviews"]


def test_namespaces_and_types_are_completed(mesh: Mesh) -> None:
    assert complete(mesh, "get", "-n", incomplete="kube") == ["kube-system"]
    assert complete(mesh, "proxy-config", incomplete="l") == ["listeners"]


def test_workloads_of_all_namespaces_are_completed_unless_one_is_named(mesh: Mesh) -> None:
    mesh.namespace("bookshop")
    mesh.put(pod("reviews-1"))
    assert complete(mesh, "logs", incomplete="rev") == ["reviews-1"]
    assert complete(mesh, "logs", "-n", "default", incomplete="rev") == []


def test_without_a_mesh_nothing_is_completed_and_nothing_is_said(tmp_path: Path) -> None:
    from click.shell_completion import ShellComplete

    completer = ShellComplete(cli, {"obj": around(tmp_path)}, "meltemi", "_MELTEMI_COMPLETE")
    assert completer.get_completions(["get"], "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(mesh: Mesh, shell: str) -> None:
    told = mesh.run("completion", shell)
    assert told.status == 0
    assert f"_MELTEMI_COMPLETE={shell}_complete" in told.out


# === versions, up and down ===


def test_versions_are_told_also_without_a_control_plane(mesh: Mesh) -> None:
    assert json.loads(mesh.run("version", "-o", "json").out)["controlPlane"] == {"version": "0.1.0", "revision": 7}
    mesh.surroundings = mesh.surroundings._replace(is_running=lambda directory: False)
    told = mesh.run("version")
    assert told.status == 0
    assert told.out.splitlines()[-1] == "control plane   no mesh is running on this machine"


def test_up_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from meltemi.local import up as local

    asked: list[local.UpOptions] = []

    def started(options: local.UpOptions) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(local, "up", started)
    assert main.run(["up", "shop", "-f", "more.yaml", "--name", "second", "-d", "--no-follow", "--port", "6443"]) == 0
    assert asked == [local.UpOptions(files=("shop", "more.yaml"), name="second", detach=True, follow=False, port=6443)]


def test_what_keeps_a_mesh_from_starting_is_told_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from meltemi.local import up as local

    def refused(options: local.UpOptions) -> int:
        raise local.UpError("user namespaces are forbidden\n  hint: sysctl kernel.unprivileged_userns_clone=1")

    monkeypatch.setattr(local, "up", refused)
    assert main.run(["up"]) == 1
    expected = "error: user namespaces are forbidden\n  hint: sysctl kernel.unprivileged_userns_clone=1\n"
    assert capsys.readouterr().err == expected
    assert main.run(["up", "--name", "../x"]) == 2


def test_down_says_whether_there_was_anything_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from meltemi.local import up as local

    monkeypatch.setattr(local, "down", lambda name, timeout: name == "local")
    assert main.run(["down"]) == 0
    assert main.run(["down", "--name", "other"]) == 0
    assert capsys.readouterr().out == "the mesh 'local' is down\nthe mesh 'other' was not running\n"
