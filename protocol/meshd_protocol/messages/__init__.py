"""The messages of each channel: between nodes (peer), a program and its daemon (local), a daemon and its workers (worker)."""
