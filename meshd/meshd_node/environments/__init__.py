"""Python environments of jobs: each lock is built once with uv, kept within bounds, and checked before it is used."""
