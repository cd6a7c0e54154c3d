"""The certificate authority of the mesh: proves who asks, signs for whom it is, and serves both over gRPC."""
