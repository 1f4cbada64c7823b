"""Addresses that a node remembers across restarts."""

from meshd_node.identity.acquaintances import KEPT, Acquaintances


def test_addresses_come_back_and_are_bounded(tmp_path) -> None:
    file = tmp_path / "acquaintances.json"
    Acquaintances(file).keep([f"10.0.0.{number}:7423" for number in range(2 * KEPT)])

    assert len(Acquaintances(file).read()) == KEPT


def test_nobody_alive_is_no_reason_to_forget(tmp_path) -> None:
    """A node that was cut off would otherwise forget whom to look for."""
    acquaintances = Acquaintances(tmp_path / "acquaintances.json")
    acquaintances.keep(["10.0.0.1:7423"])
    acquaintances.keep([])

    assert acquaintances.read() == ("10.0.0.1:7423",)


def test_a_damaged_file_is_as_good_as_none(tmp_path) -> None:
    file = tmp_path / "acquaintances.json"
    file.touch(mode=0o600)
    for damage in (b"\xff", b"{}", b'["x"]', b'["10.0.0.1:7423"'):
        file.write_bytes(damage)
        assert Acquaintances(file).read() == ()
