"""What a node keeps for others, and whom it keeps it from."""

import hashlib
from dataclasses import replace

import pytest

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.events import VerifiedRecord
from meshd_node.core.directory.storage import Storage, refusal
from meshd_protocol.ids import MeshId, NodeId, record_key
from meshd_protocol.messages.directory import SignedRecord, StoreOutcome
from meshd_protocol.records import DirectoryKind, DirectoryRecord, Version, encode_record

MESH = MeshId(b"m" * 20)
ME = NodeId(bytes(20))
WALL = 1_700_000_000.0
BLOB = b"blob"
PROVIDER = DirectoryKind.PROVIDER
KEY = record_key(PROVIDER, 0, BLOB)


def node(number: int) -> NodeId:
    return NodeId(hashlib.sha256(b"%d" % number).digest()[:20])


def record(
    publisher: NodeId,
    name: bytes = BLOB,
    kind: DirectoryKind = PROVIDER,
    version: int = 1,
    value: bytes = b"",
    ends_in: float = 100.0,
    mesh: MeshId = MESH,
) -> DirectoryRecord:
    return DirectoryRecord(mesh, kind, name, publisher, Version(1, version), int((WALL + ends_in) * 1_000), value)


def verified(record: DirectoryRecord, operator: str = "lab") -> VerifiedRecord:
    signed = SignedRecord(encode_record(record), bytes(64), [b"certificate"])
    return VerifiedRecord(signed, record, operator, record.expires_ms / 1_000 - WALL)


def values(storage: Storage) -> list[bytes]:
    return [held.record.value for held in storage.under(KEY)]


@pytest.fixture
def storage() -> Storage:
    return Storage(ME, DirectoryConfig())


# --- by itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        (record(node(1), mesh=MeshId(b"x" * 20)), StoreOutcome.NOT_YOURS),
        (record(node(1), name=node(2), kind=DirectoryKind.CONTACT), StoreOutcome.NOT_YOURS),
        (record(node(1), name=node(2), kind=DirectoryKind.CAPABILITY), StoreOutcome.NOT_YOURS),
        (record(node(1), ends_in=0.0), StoreOutcome.OUT_OF_TIME),
        (record(node(1), ends_in=-1.0), StoreOutcome.OUT_OF_TIME),
        (record(node(1), ends_in=24 * 3_600 + 121), StoreOutcome.OUT_OF_TIME),
    ],
)
def test_bad_record_is_refused_by_anybody(bad: DirectoryRecord, outcome: StoreOutcome) -> None:
    assert refusal(bad, MESH, WALL) is outcome


def test_good_records_are_not_refused() -> None:
    assert refusal(record(node(1), name=node(1), kind=DirectoryKind.CONTACT), MESH, WALL) is None
    assert refusal(record(node(1), ends_in=24 * 3_600 + 119), MESH, WALL) is None


# --- beside what is held ------------------------------------------------------------------------------------------


def test_better_record_replaces_and_worse_one_is_older(storage: Storage) -> None:
    for version, value in ((2, b"second"), (1, b"first"), (3, b"third")):
        storage.keep(verified(record(node(1), version=version, value=value)), 0)

    assert values(storage) == [b"third"]
    assert len(storage) == 1
    old = record(node(1), version=2)
    assert storage.precheck(old, encode_record(old), 0, "lab") is StoreOutcome.OLDER


def test_of_equal_versions_the_later_expiry_and_then_the_larger_bytes_stand(storage: Storage) -> None:
    """Everybody chooses the same, whatever came first."""
    small, large = record(node(1), value=b"a"), record(node(1), value=b"b")
    longer = record(node(1), value=b"A", ends_in=101.0)
    other = Storage(ME, DirectoryConfig())
    for each in (small, large, longer):
        storage.keep(verified(each), 0)
    for each in (longer, large, small):
        other.keep(verified(each), 0)

    assert values(storage) == values(other) == [b"A"]


def test_same_bytes_again_cost_no_signature_check(storage: Storage) -> None:
    same = record(node(1))
    assert storage.precheck(same, encode_record(same), 0, "lab") is None
    storage.keep(verified(same), 0)

    assert storage.precheck(same, encode_record(same), 0, "lab") is StoreOutcome.KEPT


def test_publishers_stand_side_by_side(storage: Storage) -> None:
    storage.keep(verified(record(node(1), value=b"one")), 0)
    storage.keep(verified(record(node(2), value=b"two")), 0)

    assert values(storage) == [b"one", b"two"]


def test_salt_that_a_kind_does_not_have_is_refused(storage: Storage) -> None:
    assert storage.keep(verified(record(node(1))), 1) is StoreOutcome.NOT_YOURS
    contact = verified(record(node(1), name=node(1), kind=DirectoryKind.CONTACT))
    assert storage.keep(contact, 2) is StoreOutcome.KEPT


# --- quotas -------------------------------------------------------------------------------------------------------


def test_publisher_has_a_quota(storage: Storage) -> None:
    outcomes = [storage.keep(verified(record(node(1), name=b"%d" % number)), 0) for number in range(65)]

    assert outcomes == [StoreOutcome.KEPT] * 64 + [StoreOutcome.FULL]
    newer = record(node(1), name=b"0", version=2)
    assert storage.keep(verified(newer), 0) is StoreOutcome.KEPT


def test_store_as_a_whole_has_a_quota_of_records_and_of_bytes() -> None:
    few = Storage(ME, DirectoryConfig(records_max=2))
    small = Storage(ME, DirectoryConfig(record_bytes_max=2_000))
    for storage in (few, small):
        outcomes = [
            storage.keep(verified(record(node(number), name=b"%d" % number, value=bytes(1_000))), 0)
            for number in range(3)
        ]
        assert outcomes == [StoreOutcome.KEPT, StoreOutcome.KEPT, StoreOutcome.FULL]


def test_this_nodes_own_records_always_have_room() -> None:
    storage = Storage(ME, DirectoryConfig(records_max=1, key_publishers_max=1))
    storage.keep(verified(record(node(1))), 0)

    assert storage.keep(verified(record(ME)), 0) is StoreOutcome.KEPT
    assert len(storage) == 2


def test_first_comers_do_not_keep_other_operators_out(storage: Storage) -> None:
    """One operator's 32 nodes under a key: an own one of somebody else displaces the one that ends first."""
    for number in range(32):
        storage.keep(verified(record(node(number), ends_in=100.0 + (number + 5) % 32), "squatter"), 0)
    newcomer = verified(record(node(99)), "lab")

    assert storage.keep(newcomer, 0) is StoreOutcome.KEPT
    held = storage.under(KEY)
    assert len(held) == 32
    assert newcomer in held
    assert node(27) not in [each.record.publisher for each in held]
    assert storage.keep(verified(record(node(100)), "squatter"), 0) is StoreOutcome.FULL


def test_operators_of_equal_share_do_not_displace_each_other(storage: Storage) -> None:
    for number in range(32):
        storage.keep(verified(record(node(number)), "even" if number % 2 else "odd"), 0)

    assert storage.keep(verified(record(node(99)), "odd"), 0) is StoreOutcome.FULL
    assert storage.keep(verified(record(node(99)), "third"), 0) is StoreOutcome.KEPT


# --- time ---------------------------------------------------------------------------------------------------------


def test_records_expire_at_their_time_and_make_room(storage: Storage) -> None:
    storage.keep(verified(record(node(1), ends_in=50.0)), 0)
    storage.keep(verified(record(node(2), ends_in=70.0, value=b"later")), 0)

    assert storage.next_at() == 50.0
    storage.expire(50.0)
    assert values(storage) == [b"later"]
    assert storage.next_at() == 70.0
    assert len(storage) == 1


def test_renewed_record_outlives_its_first_expiry(storage: Storage) -> None:
    storage.keep(verified(record(node(1), ends_in=50.0)), 0)
    storage.keep(verified(record(node(1), ends_in=90.0, version=2)), 0)
    storage.expire(60.0)

    assert len(storage) == 1
    storage.expire(90.0)
    assert len(storage) == 0


def test_times_of_renewed_records_do_not_pile_up(storage: Storage) -> None:
    for version in range(1, 1_000):
        storage.keep(verified(record(node(1), version=version, ends_in=50.0 + version)), 0)

    assert len(storage._ends) <= 18


def test_revoked_publishers_records_go(storage: Storage) -> None:
    storage.keep(verified(record(node(1), value=b"one")), 0)
    storage.keep(verified(record(node(1), name=b"other")), 0)
    storage.keep(verified(record(node(2), value=b"two")), 0)
    storage.forget(node(1))

    assert values(storage) == [b"two"]
    assert len(storage) == 1


def test_bounds_are_checked() -> None:
    with pytest.raises(Exception, match=r"directory\.k must not be above 20"):
        replace(DirectoryConfig(), k=21)
    with pytest.raises(Exception, match="must be in this order"):
        DirectoryConfig(hedge_s=1.0)
    with pytest.raises(Exception, match="must be above 0"):
        DirectoryConfig(alpha=0)
    with pytest.raises(Exception, match="ttl_s must be above"):
        DirectoryConfig(republish_s=10 * 3_600.0)
