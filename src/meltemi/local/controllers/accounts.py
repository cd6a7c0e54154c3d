"""Every namespace has a service account `default`, also after someone has deleted it."""

from __future__ import annotations

from collections.abc import Sequence

from meltemi.kube.resources import Obj
from meltemi.local.controllers.plans import Create, Plan, is_being_deleted


def plan(namespace: Obj, accounts: Sequence[Obj]) -> Plan:
    """What a namespace lacks, given its service accounts."""
    if is_being_deleted(namespace) or any(account["metadata"]["name"] == "default" for account in accounts):
        return Plan()
    name = namespace["metadata"]["name"]
    metadata = {"name": "default", "namespace": name}
    return Plan([Create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})])
