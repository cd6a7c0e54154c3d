"""Faults put in on purpose. The filter stands in every chain, disabled, and a route that asks for faults enables it."""

from __future__ import annotations

from meltemi.envoy.values import duration, fraction
from meltemi.model.routes import Abort, Delay, Fault
from meltemi.protos.envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from meltemi.protos.envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault

NAME = "envoy.filters.http.fault"


def per_route(fault: Fault) -> HTTPFault:
    """The faults of one route."""
    return HTTPFault(
        delay=None if fault.delay is None else _delay(fault.delay),
        abort=None if fault.abort is None else _abort(fault.abort),
    )


def _delay(delay: Delay) -> FaultDelay:
    return FaultDelay(fixed_delay=duration(delay.duration), percentage=fraction(delay.percent))


def _abort(abort: Abort) -> FaultAbort:
    if abort.grpc is not None:
        return FaultAbort(grpc_status=abort.grpc, percentage=fraction(abort.percent))
    return FaultAbort(http_status=abort.status, percentage=fraction(abort.percent))
