"""Delta xDS: finished resources on their way to Envoy, and Envoy's answers on their way back.

`shelf` holds what each class of clients gets, `stream` decides what one proxy is sent and when (pure, synchronous),
`wire` lays finished bytes side by side, and `server` carries them over gRPC. Nothing here builds a resource.
"""
