"""What work meets that tries to get out of its cage, or takes more than it was given."""

import pytest

from meshd_node.exec.cage import landlock
from meshd_node.exec.cage.closure import closure

# Refused by the kernel, by Landlock, by the filter, or not there: never done.
REFUSED = {"ENOSYS", "EACCES", "EPERM", "ENOENT", "EROFS", "ESRCH", "ECONNREFUSED", "EINVAL"}
WAYS_OUT = (
    "read_secret",
    "read_environment_of_warden",
    "trace_warden",
    "connect_tcp",
    "connect_by_path",
    "write_to_system",
    "write_to_interpreter",
    "write_to_temporary",
    "write_to_settings",
    "become_root",
    "make_device",
    "open_key_to_all",
    "take_key_from_warden",
    "limit_warden",
    "slow_warden_down",
)
FORBIDDEN_CALLS = (
    "make_user_namespace",
    "clone_into_user_namespace",
    "mount",
    "load_bpf",
    "read_keys",
    "make_ring",
    "catch_faults",
    "count_performance",
    "type_into_terminal",
    "type_into_terminal_with_high_bits",
)


@pytest.mark.parametrize("deed", WAYS_OUT)
def test_no_way_leads_out_of_a_cage(warden, outcome_of, deed) -> None:
    assert outcome_of(warden, deed) in REFUSED


@pytest.mark.parametrize("deed", ["kill_warden", "connect_by_abstract_name"])
def test_signals_and_abstract_sockets_do_not_leave_a_cage_with_namespaces(
    warden_with_namespaces, outcome_of, deed
) -> None:
    assert outcome_of(warden_with_namespaces, deed) in REFUSED


@pytest.mark.parametrize("deed", ["kill_warden", "connect_by_abstract_name"])
def test_landlock_holds_signals_and_abstract_sockets_where_there_are_no_namespaces(
    warden_without_namespaces, outcome_of, deed
) -> None:
    if landlock.abi() < 6:
        pytest.skip("this kernel's Landlock does not know of signals")

    assert outcome_of(warden_without_namespaces, deed) in REFUSED


@pytest.mark.parametrize("deed", FORBIDDEN_CALLS)
def test_the_filter_forbids_what_others_have_escaped_by(warden, outcome_of, deed) -> None:
    assert outcome_of(warden, deed) == "EPERM"


@pytest.mark.parametrize("deed", ["clone_by_structure", "call_unknown"])
def test_calls_that_the_filter_can_not_judge_do_not_exist(warden, outcome_of, deed) -> None:
    """Libraries then fall back to what it can judge; with EPERM they would give up."""
    assert outcome_of(warden, deed) == "ENOSYS"


@pytest.mark.parametrize("deed", ["connect_tcp", "make_vsock", "make_netlink"])
def test_no_socket_is_made_but_unix_ones(warden, outcome_of, deed) -> None:
    """A namespace of networks does not hold AF_VSOCK: it reaches the hypervisor."""
    assert outcome_of(warden, deed) == "EACCES"


def test_segments_of_the_hosts_memory_can_not_be_made(warden_without_namespaces, outcome_of) -> None:
    """They would outlive the cage and its bounds."""
    assert outcome_of(warden_without_namespaces, "make_shared_segment") == "EPERM"


def test_work_is_nobody_and_can_not_become_more(warden, outcome_of) -> None:
    status = outcome_of(warden, "status")

    assert set(status["Uid"].split()) & {"0"} == set()
    assert [int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_hosts_files_are_not_there(warden_with_namespaces, outcome_of) -> None:
    root = set(outcome_of(warden_with_namespaces, "list_root"))
    # The interpreter of these tests may lie anywhere, below /tmp or /home for one.
    needed = {path.parts[1] for path in closure()}

    assert {"proc", "dev", "scratch", "usr"} <= root
    assert root.isdisjoint({"home", "var", "tmp", "run", "mnt", "srv", "boot"} - needed)


def test_the_hosts_processes_are_not_there(warden_with_namespaces, outcome_of) -> None:
    """The program, the deed, and bubblewrap where it has to stay."""
    assert outcome_of(warden_with_namespaces, "list_processes") <= 3


def test_the_hosts_name_is_not_there(warden_with_namespaces, outcome_of) -> None:
    assert outcome_of(warden_with_namespaces, "host_name") == "cage"


def test_nothing_of_the_daemons_environment_is_there(warden, outcome_of) -> None:
    given = {"PATH", "TARGETS", "HOME", "TMPDIR", "PWD"}

    assert set(outcome_of(warden, "environment")) - given <= {"LC_CTYPE"}


def test_no_descriptor_is_there_but_what_was_handed_over(warden, outcome_of) -> None:
    """Standard streams, the two of the answer (the cage's and the deed's), and /proc itself being looked at."""
    assert len(outcome_of(warden, "descriptors")) <= 6


def test_processes_are_bounded(warden, outcome_of) -> None:
    # The kernel lets one or two more through while others of the user end.
    assert 10 <= outcome_of(warden, "fork_many") <= 44


def test_scratch_space_is_bounded(warden_with_namespaces, outcome_of) -> None:
    assert outcome_of(warden_with_namespaces, "write_much") <= 16 << 20


def test_each_file_is_bounded(warden, outcome_of) -> None:
    assert outcome_of(warden, "write_one_large_file") == 4 << 20


def test_open_files_are_bounded(warden, outcome_of) -> None:
    assert 64 <= outcome_of(warden, "open_many") <= 128


def test_memory_is_bounded_where_that_is_asked_for(warden, outcome_of) -> None:
    assert outcome_of(warden, "allocate") == "MemoryError"
