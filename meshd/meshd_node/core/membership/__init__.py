"""Membership: who is in the mesh and in what state, from signed states alone."""
