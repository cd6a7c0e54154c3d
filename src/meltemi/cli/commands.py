"""THE LIST: every verb in its section, with the line that `meltemi --help` shows. The module is `verbs.<name>`."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A verb: its name, its section of the help, and what it does in one line."""

    name: str
    section: str
    summary: str

    @property
    def module(self) -> str:
        """The name of the module that implements it."""
        return f"meltemi.cli.verbs.{self.name.replace('-', '_')}"

    @property
    def function(self) -> str:
        """The name of the click command in that module."""
        return self.name.replace("-", "_")


MACHINE = "A mesh on this machine"
OBJECTS = "What you write"
PROXIES = "What the mesh does"
WORKLOADS = "Workloads"
OTHER = "Other"

COMMANDS: tuple[Command, ...] = (
    Command("up", MACHINE, "Start a mesh and everything in a directory"),
    Command("down", MACHINE, "Stop a mesh that runs in the background"),
    Command("apply", OBJECTS, "Create or change objects from files, and wait until they are live"),
    Command("delete", OBJECTS, "Delete objects"),
    Command("get", OBJECTS, "List objects"),
    Command("describe", OBJECTS, "Tell all about one object: status, problems, where it is live, events"),
    Command("validate", OBJECTS, "Check files without a mesh"),
    Command("analyze", OBJECTS, "Find what is wrong with objects together, in files or in a mesh"),
    Command("status", PROXIES, "The mesh at a glance"),
    Command("proxy-status", PROXIES, "How far each proxy has come with its configuration"),
    Command("proxy-config", PROXIES, "What a proxy is configured with, and which object each part came from"),
    Command("logs", WORKLOADS, "Show what a workload or its proxy has printed"),
    Command("exec", WORKLOADS, "Run a command beside a workload's process"),
    Command("version", OTHER, "The versions of this program, the control plane and Envoy"),
    Command("completion", OTHER, "Print the completion script of a shell"),
)

BY_NAME = {command.name: command for command in COMMANDS}
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(command.section for command in COMMANDS))
