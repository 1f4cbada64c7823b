"""When others' work may run: what the charter asks of the time, of whoever uses this machine, of its load and disk."""

from datetime import datetime
from typing import NamedTuple

from meshd_node.charter.config import CharterConfig
from meshd_protocol.limits import MIB


class Conditions(NamedTuple):
    """How it is now. What is None is not known, or not yet: who asks for it is refused until it is."""

    local: datetime
    input_idle_s: float | None
    busy_cpus: float | None
    disk_free_bytes: int


def why_closed(charter: CharterConfig, now: Conditions) -> str:
    """Why work of others does not run now, for their `why`; "" if it may.

    The text is the same for as long as the reason is: whoever compares it learns of changes, not of every minute.
    """
    if charter.hours and not any(span.holds(now.local) for span in charter.spans):
        return f"it lends at certain hours only ({', '.join(charter.hours)})"
    if charter.idle_s and now.input_idle_s is None:
        return "it sees no keyboard, mouse or terminal, and lends only after some time without input"
    if now.input_idle_s is not None and now.input_idle_s < charter.idle_s:
        return f"somebody uses it: it lends after {charter.idle_s} s without input"
    if charter.busy_cpus_max and now.busy_cpus is None:
        return f"its load is not known: it lends below {charter.busy_cpus_max:g} CPUs in use"
    if now.busy_cpus is not None and charter.busy_cpus_max and now.busy_cpus > charter.busy_cpus_max:
        return f"it is busy with its own: it lends below {charter.busy_cpus_max:g} CPUs in use"
    if now.disk_free_bytes < charter.disk_free_mib * MIB:
        return f"less than {charter.disk_free_mib} MiB are free on its disk"
    return ""
