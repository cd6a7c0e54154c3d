"""What the mesh means: services, workloads, routes, policies and identities, free of Envoy and of Kubernetes.

Whatever language a user wrote in (Istio's kinds, the Gateway API, another mesh's), `resolve` turns it into these values,
and everything that acts reads only these: the translation to Envoy, the simulator, the explanations. All are frozen
values, compared by content, so that an unchanged meaning stops a change from travelling further.
"""
