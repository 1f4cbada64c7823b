"""Membership: who is in the mesh and whether they live. Spec: 10-membership.md."""
