"""What users write: Kubernetes' own kinds, Istio's kinds, and ours, as typed values.

The way of a text: `yaml` loads documents that remember their lines; `decoding` makes a typed resource of each (with
`shaping` telling every mistake at once where the fast path fails); `validation` tells what decodes but cannot mean
anything; `support` warns of fields that nothing acts on; `reading` does all of it in one step. The structs (`core`,
`networking`, `security`, `telemetry`, `mesh`) are the one description of the API: `schema` makes CRDs of them, and
`registry` lists the kinds.

Invariant: nothing here knows what a resource is made into. `api` and `model` meet only in `resolve`.
"""
