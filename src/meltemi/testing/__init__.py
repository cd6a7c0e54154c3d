"""Tools for testing meshes, ours and users': builders, random configurations, goldens, real Envoys."""
