"""Beside each Envoy: who it is (bootstrap), its certificates (CSR, SDS) and its metrics. One process can serve many."""
