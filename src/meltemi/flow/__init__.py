"""The incremental engine: tables that follow from tables.

    g = Graph()
    pods: Table[Ref, Pod] = g.input("core/Pod", node=lambda pod: pod.spec.node_name)
    workloads = g.derive("workloads", resolve.workload, pods, using(namespaces=namespaces))
    revision = g.commit([Put(pods, key, pod)])

A transform is a plain function of one row and of read-only views of the tables it names as parameters. It must be
pure: stateless, reading nothing but its arguments, returning frozen values that compare with `==`. The same holds for
index functions. See `Graph` for the kinds of table and `View` for what a transform can read.
"""

from meltemi.flow.errors import CommitError, DeclarationError, FlowError, NoRow, ReadError
from meltemi.flow.graph import Graph
from meltemi.flow.provenance import Source
from meltemi.flow.revision import Delta, Fact, Put, Remove, Revision
from meltemi.flow.statistics import Statistics, TableStatistics
from meltemi.flow.table import Table
from meltemi.flow.transform import Using, using
from meltemi.flow.view import Read, View

__all__ = [
    "CommitError",
    "DeclarationError",
    "Delta",
    "Fact",
    "FlowError",
    "Graph",
    "NoRow",
    "Put",
    "Read",
    "ReadError",
    "Remove",
    "Revision",
    "Source",
    "Statistics",
    "Table",
    "TableStatistics",
    "Using",
    "View",
    "using",
]
