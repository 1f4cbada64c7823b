"""What workers run beside Python: commands and WebAssembly, each with a `main` for a worker. Spec: 15-runtimes.md.

Loaded after the fork, in a cage; nothing here is imported by the daemon.
"""
