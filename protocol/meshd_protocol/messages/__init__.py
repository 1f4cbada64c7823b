"""The messages of each channel: peer (between nodes), local (program and daemon), worker (daemon and worker)."""
