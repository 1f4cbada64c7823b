import pytest

from meshd_node.core.membership.exchange import Window, want, windows
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import STATE_DIGESTS_MAX, STATES_PER_MESSAGE_MAX
from meshd_protocol.records import Slot, Version

ONE = Version(1, 1)


def held(count: int) -> dict[tuple[NodeId, Slot], Version]:
    return {(NodeId(index.to_bytes(20, "big")), Slot.CORE): ONE for index in range(count)}


@pytest.mark.parametrize("count", [0, 1, STATE_DIGESTS_MAX - 1, STATE_DIGESTS_MAX, STATE_DIGESTS_MAX + 1, 20_000])
def test_every_key_is_in_some_window_and_no_window_is_above_its_bound(count: int) -> None:
    messages = windows(held(count))
    keys = {(digest.publisher, digest.slot) for message in messages for digest in message.digests}

    assert keys == set(held(count))
    assert all(len(message.digests) <= STATE_DIGESTS_MAX for message in messages)


def test_what_lies_between_two_windows_is_seen_as_missing() -> None:
    mine = held(10_000)
    gap = (NodeId((STATE_DIGESTS_MAX - 1).to_bytes(20, "big") + b"x"), Slot.CORE)
    seen = [Window.of(message.digests) for message in windows(mine)]

    assert any(window.lacks(gap, ONE) for window in seen)


def test_a_full_window_says_nothing_of_keys_outside_of_it() -> None:
    first = Window.of(windows(held(10_000))[0].digests)

    assert not first.lacks((NodeId((9_000).to_bytes(20, "big")), Slot.CORE), ONE)


def test_a_small_window_covers_everything() -> None:
    assert Window.of([]).lacks((NodeId(bytes(20)), Slot.OFFER), ONE)


def test_wants_are_cut_to_messages_with_certificates_first() -> None:
    keys = [(NodeId(index.to_bytes(20, "big")), slot) for index in range(150) for slot in (Slot.OFFER, Slot.CORE)]
    wants = [key for message in want(keys) for key in message.wants]

    assert [slot for _, slot in wants] == [Slot.CORE] * 150 + [Slot.OFFER] * 150
    assert all(len(message.wants) <= STATES_PER_MESSAGE_MAX for message in want(keys))
