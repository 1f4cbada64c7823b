"""The job engine in the simulator: owners, executors, their workers and users, and rules that watch them."""
