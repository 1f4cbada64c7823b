"""What the figures of cages and runtimes are taken with: `python -m benchmarks.cages`."""
