"""What of this node is reachable, from whom, and what is to be mended. Spec: 08-peer.md, section 6."""
