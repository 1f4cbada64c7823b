"""Worker processes: a pool in the daemon, a warden that makes cages, a zygote in each, workers. Spec: 12-worker.md.

`warden`, `zygote` and `worker` run outside the daemon and load neither trio nor anything with a key.
"""
