"""What must hold of the job engine: invariants 1 to 5, 7 and 14 to 16, each where it can be seen to break."""
