"""The transport: TLS 1.3 between nodes, one session for each peer, writes that coalesce. Spec: 08-peer.md."""
