"""Whether a workload asks for mutual TLS: its PeerAuthentications, from the mesh down to the workload and its ports.

At each step (the mesh, a namespace, a workload) the oldest policy holds; what it leaves unset is taken from the step
above. Policies for a port need a selector, and so do not exist for the mesh or for a namespace.
"""

from __future__ import annotations

from collections.abc import Generator

from meltemi.api.security import PeerAuthentication
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.security import MutualTls, PeerPolicy
from meltemi.resolve import problems

Peers = View[tuple[str, str], PeerAuthentication]

UNSET = "UNSET"


def policy(peers: Peers, namespace: str, labels: LabelSet, root: str) -> Generator[Problem, None, PeerPolicy]:
    """The mTLS mode of the workload of a namespace with these labels."""
    own = sorted(peers.by("namespace", namespace), key=seniority)
    mesh = own if namespace == root else sorted(peers.by("namespace", root), key=seniority)
    steps = [
        ("the mesh", [each for each in mesh if not _selector(each)]),
        (f"namespace {namespace}", [each for each in own if not _selector(each) and namespace != root]),
        ("the workload", [each for each in own if (wanted := _selector(each)) and labels.contains(wanted)]),
    ]
    mode = MutualTls.PERMISSIVE
    ports: tuple[tuple[int, MutualTls], ...] = ()
    refs = []
    for where, ranked in steps:
        for younger in ranked[1:]:
            yield _loses(younger, ranked[0], where)
        if ranked:
            chosen = ranked[0]
            refs.append(chosen.ref)
            mode = _mode(chosen.spec.mtls.mode if chosen.spec.mtls else UNSET, mode)
            if where == "the workload":
                levels = sorted(chosen.spec.port_level_mtls.items())
                ports = tuple((port, _mode(level.mode, mode)) for port, level in levels)
            elif chosen.spec.port_level_mtls:
                yield _without_selector(chosen)
    return PeerPolicy(mode, ports, tuple(refs))


def takes_tls(peers: Peers, namespace: str, labels: LabelSet, root: str, port: int) -> bool:
    """Whether the workload of a namespace with these labels takes mutual TLS on a port at all: not where it is DISABLE."""
    all_ = (*peers.by("namespace", namespace), *peers.by("namespace", root))
    if not any(_may_disable(each) for each in all_):
        return True
    steps = policy(peers, namespace, labels, root)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: PeerPolicy = end.value
            return found.of(port) is not MutualTls.DISABLE


def _may_disable(peer: PeerAuthentication) -> bool:
    levels = [peer.spec.mtls, *peer.spec.port_level_mtls.values()]
    return any(level is not None and level.mode == MutualTls.DISABLE for level in levels)


def _mode(text: str, above: MutualTls) -> MutualTls:
    return above if text == UNSET else MutualTls(text)


def _selector(peer: PeerAuthentication) -> LabelSet:
    return LabelSet.of(peer.spec.selector.match_labels) if peer.spec.selector else LabelSet()


def _loses(younger: PeerAuthentication, senior: PeerAuthentication, where: str) -> Problem:
    return problems.of(
        younger,
        "spec",
        "PeerAuthenticationConflict",
        f"it is not in effect: {senior.ref}, which is older, already holds for {where}",
        "keep one PeerAuthentication for it",
    )


def _without_selector(peer: PeerAuthentication) -> Problem:
    return problems.of(
        peer,
        "spec.portLevelMtls",
        "SelectorRequired",
        "it is not in effect: ports can be told apart only where workloads are selected",
        "add a selector, or remove portLevelMtls",
    )
