"""The translation of the model into finished Envoy resources: values in, serialised bytes out.

Architecture invariant: nothing here knows what users write (`api`) or who asks (`xds`). Every function is pure; every
resource is finished once and shared as bytes by all proxies that get the same.
"""
