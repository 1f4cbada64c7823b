"""The simulator: every machine of the mesh, unchanged, in a seeded world with virtual time."""
