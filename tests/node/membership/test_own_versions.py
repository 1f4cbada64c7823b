"""What a node says of itself must win over all that it said before, whatever became of its disk."""

from meshd_node.core.membership.own_versions import OwnVersions
from meshd_protocol.records import U32_MAX, Version


def test_versions_rise_from_the_boot_epoch() -> None:
    versions = OwnVersions(3)

    assert versions.following() == Version(3, 1)
    versions.pass_over(versions.following())
    assert versions.following() == Version(3, 2)


def test_a_version_that_was_not_used_leaves_no_gap() -> None:
    versions = OwnVersions(3)
    versions.following()

    assert versions.following() == Version(3, 1)


def test_a_liar_that_accuses_a_version_to_come_is_passed_over() -> None:
    versions = OwnVersions(3)
    versions.pass_over(Version(3, 40))

    assert versions.following() == Version(3, 41)
    versions.pass_over(Version(3, 7))
    assert versions.following() == Version(3, 41)


def test_a_former_life_is_outbid_once_and_an_older_one_never() -> None:
    versions = OwnVersions(3)

    assert not versions.outbid(Version(2, 99))
    assert versions.outbid(Version(9, 1))
    assert versions.following() == Version(10, 1)
    assert not versions.outbid(Version(9, 1))


def test_the_last_epoch_is_outbid_by_nobody() -> None:
    versions = OwnVersions(3)

    assert not versions.outbid(Version(U32_MAX, 1))
    assert versions.following() == Version(3, 1)
