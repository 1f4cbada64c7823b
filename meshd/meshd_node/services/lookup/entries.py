"""What was found, as the JSON that `--json` prints."""

from collections.abc import Callable

from meshd_node.core.membership.effects import Member
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.records import (
    CapabilityValue,
    ContactValue,
    DirectoryKind,
    DirectoryRecord,
    JobValue,
    ProviderValue,
    decode_record,
)

Json = dict[str, object]


def of_member(member: Member, since: float) -> Json:
    """A node as membership has it; `since` is in seconds since 1970."""
    return {
        "kind": "node",
        "from": "membership",
        "node": to_text(member.node),
        "name": member.core.name,
        "state": member.state.value,
        "since": round(since, 3),
        "operator": member.certified.operator,
        "addresses": list(member.core.addresses),
        "record": [member.version.epoch, member.version.sequence],
    }


def of_own_job(job: bytes, owner: NodeId, name: str) -> Json:
    """A job that this node drives."""
    return {
        "kind": "job",
        "from": "this node",
        "job": to_text(job),
        "node": to_text(owner),
        "name": name,
        "epoch": None,
        "guardians": [],
    }


def of_record(record: DirectoryRecord, name_of: Callable[[NodeId], str]) -> Json | None:
    """A record of the directory; None if what it says can not be read here: its publisher may be of a later release."""
    publisher = NodeId(record.publisher)
    found: Json = {
        "kind": _KINDS[record.kind],
        "from": "directory",
        "node": to_text(publisher),
        "name": name_of(publisher),
        "record": [record.version.epoch, record.version.sequence],
        "expires": record.expires_ms / 1_000,
    }
    try:
        return {**found, **_value(record)}
    except MalformedMessage:
        return None


def _value(record: DirectoryRecord) -> Json:
    match record.kind:
        case DirectoryKind.CONTACT:
            return {"addresses": decode_record(ContactValue, record.value).addresses}
        case DirectoryKind.CAPABILITY:
            offered = decode_record(CapabilityValue, record.value)
            return {"cpus": offered.cpu_milli / 1_000, "memory_bytes": offered.memory_bytes, "gpus": offered.gpus}
        case DirectoryKind.PROVIDER:
            return {"blob": to_text(record.name), "bytes": decode_record(ProviderValue, record.value).size}
        case DirectoryKind.JOB:
            owned = decode_record(JobValue, record.value)
            guardians = [to_text(guardian) for guardian in owned.guardians]
            return {"job": to_text(record.name), "epoch": owned.epoch, "guardians": guardians}


_KINDS = {
    DirectoryKind.CONTACT: "node",
    DirectoryKind.CAPABILITY: "capability",
    DirectoryKind.PROVIDER: "provider",
    DirectoryKind.JOB: "job",
}
