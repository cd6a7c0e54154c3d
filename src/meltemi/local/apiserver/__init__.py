"""The local Kubernetes API: kubectl and every client of it work against a mesh on one machine.

A request goes down: `http` (paths, headers, formats) -> `verbs` (what create, update, apply and delete mean) ->
`admission` (defaults, validation) and `ownership` (server-side apply) -> `store` (revisions, SQLite, history).
Everything below `http` and `watching` is synchronous, so that a request is decided in one go and nothing interleaves.
"""
