"""The directory on real daemons: what one node publishes, others find by its id."""

import json


def records(node, what: str, kind: str) -> list[dict[str, object]]:
    """What `meshd lookup` shows of one kind that came from the directory; none while nobody knows."""
    ended = node.cli("lookup", what, "--json")
    found = json.loads(ended.stdout)["found"] if ended.returncode == 0 else []
    return [each for each in found if each["from"] == "directory" and each["kind"] == kind]


def test_node_is_found_in_the_directory_where_it_published_that_it_listens(lab, until) -> None:
    first, _, third = lab.found(0, 0, 0, MESHD_DIRECTORY_SETTLE_S="0.5")

    record = until(lambda: records(first, third.id, "node"))[0]

    assert record["node"] == third.id
    assert record["addresses"] == [third.address]


def test_node_that_moved_says_so_under_the_same_key(lab, until) -> None:
    """A later version of its record replaces the one before its restart."""
    first, second = lab.found(0, 0, MESHD_DIRECTORY_SETTLE_S="0.5")
    before = until(lambda: records(first, second.id, "node"))[0]
    second.stop()
    second.start(MESHD_LISTEN="127.0.0.1:0", MESHD_DIRECTORY_SETTLE_S="0.5").until_ready()

    after = until(lambda: [each for each in records(first, second.id, "node") if each["record"] > before["record"]])[0]

    assert after["addresses"] == [second.address]
    assert after["addresses"] != before["addresses"]
