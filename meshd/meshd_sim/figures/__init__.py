"""What the simulated mesh achieves, beside the goals: `python -m meshd_sim.figures`."""
