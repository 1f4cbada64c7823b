"""Worker processes: a pool in the daemon, a zygote that forks them, the worker itself. Spec: 12-worker.md.

`zygote` and `worker` run outside the daemon and load neither trio nor anything with a key.
"""
