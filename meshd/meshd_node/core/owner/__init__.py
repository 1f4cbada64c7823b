"""The owner: drives the jobs of this node's users from submission to verdict."""
