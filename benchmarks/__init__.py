"""What meshd reaches beside others that run Python on several processes: `python -m benchmarks`."""
