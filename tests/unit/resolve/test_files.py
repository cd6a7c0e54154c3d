"""Certificates in files, which only the proxies can read: their paths are carried as they were written."""

from __future__ import annotations

from typing import Any

from meltemi.model.traffic import ClientTls, TlsMode


def test_certificates_of_a_client_are_named_by_their_paths(shop: Any) -> None:
    shop.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: files, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
    tls:
      mode: MUTUAL
      clientCertificate: /tls/crt
      privateKey: /tls/key
      caCertificates: /tls/ca
      caCrl: /tls/crl
""")
    (variant,) = shop.row("destinations", "reviews").variants
    assert variant.policy(9080, "").tls == ClientTls(
        mode=TlsMode.MUTUAL,
        client_certificate="/tls/crt",
        private_key_file="/tls/key",
        ca_certificates="/tls/ca",
        ca_crl="/tls/crl",
    )


def test_a_workload_entry_says_its_network(shop: Any) -> None:
    shop.apply("""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: far, namespace: shop}
spec: {address: 192.0.2.1, network: far-away}
""")
    assert shop.only("entries").network == "far-away"
