"""Event and Lease. Source: Kubernetes core/v1 and coordination.k8s.io/v1."""

from __future__ import annotations

from meltemi.api.core.services import ObjectReference
from meltemi.api.meta import CorePart, Resource


class EventSource(CorePart, frozen=True, kw_only=True):
    """Who reports."""

    component: str = ""
    host: str = ""


class Event(Resource, frozen=True, kw_only=True):
    """Something that happened to an object."""

    involved_object: ObjectReference = ObjectReference()
    type: str = "Normal"
    reason: str = ""
    message: str = ""
    count: int = 0
    first_timestamp: str = ""
    last_timestamp: str = ""
    event_time: str = ""
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""
    action: str = ""


class LeaseSpec(CorePart, frozen=True, kw_only=True):
    """Who holds a lease, and until when."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Lease(Resource, frozen=True, kw_only=True):
    """A right that one holder has at a time."""

    spec: LeaseSpec = LeaseSpec()
