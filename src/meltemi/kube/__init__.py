"""A thin Kubernetes client: what the mesh needs of the REST API, typed, on aiohttp and msgspec, and nothing else."""
