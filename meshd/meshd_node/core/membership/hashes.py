"""What a signed record adds to the hash over all that a node holds. Spec: 10-membership.md."""

from blake3 import blake3

from meshd_protocol.messages.membership import SUMMARY_HASH_BYTES


def record_hash(body: bytes) -> int:
    """What one signed body adds to its shelf's hash, by XOR, which is its own inverse."""
    return int.from_bytes(blake3(body).digest(length=SUMMARY_HASH_BYTES), "big")
