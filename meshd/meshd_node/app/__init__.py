"""The composition root: builds every part of a node, hands each its own configuration, runs and ends them together."""
