"""The control plane, put together: sources, pipeline, xDS, certificate authority, status and admin in one process."""
