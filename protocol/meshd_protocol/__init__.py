"""Bytes and rules of meshd: ids, limits, errors, framing, signing, values, messages. Knows no clock, file or socket."""

__all__ = ["PROTOCOL_VERSION"]

PROTOCOL_VERSION = 1
