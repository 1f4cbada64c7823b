"""A cage ends as a whole, and leaves nothing."""

import os
import signal
import time

import pytest

# A process of a session of its own that outlives its parent, and says its token until it is ended.
LEAVE_A_PROCESS = """
import json, os, signal, time
answer = json.loads(os.environ["TARGETS"])["answer"]
token = json.loads(os.environ["TARGETS"])["token"]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execv("/bin/sh", ["sh", "-c", "echo begun >&%d; while :; do sleep 1; done # " % answer + token])
    os._exit(0)
os.wait()
signal.pause()
"""


def _wait_until_gone(token: str) -> None:
    """Ends of processes are seen in /proc alone."""
    deadline = time.monotonic() + 20
    while _running(token):
        assert time.monotonic() < deadline, "a process outlived its cage"
        os.sched_yield()


def _running(token: str) -> list[str]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as line:
                words = line.read()
        except OSError:
            continue
        if token.encode() in words and words.startswith(b"sh\0"):
            found.append(name)
    return found


def test_a_cage_whose_process_is_killed_ends_as_a_whole(warden_with_namespaces) -> None:
    token = f"killed-{os.getpid()}-{warden_with_namespaces.maker}-{warden_with_namespaces.user}"
    process = warden_with_namespaces.start(LEAVE_A_PROCESS, targets={"token": token}, leave="kill")
    said, errors = process.communicate(timeout=40)

    assert (said.strip(), errors) == ("begun", "")
    _wait_until_gone(token)


def test_a_cage_ends_with_its_warden(warden_with_namespaces) -> None:
    token = f"orphan-{os.getpid()}-{warden_with_namespaces.maker}-{warden_with_namespaces.user}"
    process = warden_with_namespaces.start(LEAVE_A_PROCESS, targets={"token": token}, leave="end")
    said, _ = process.communicate(timeout=40)

    assert said.strip() == "begun"
    _wait_until_gone(token)


def test_what_outlives_a_cage_without_namespaces_is_known_by_its_user(warden_without_namespaces) -> None:
    if warden_without_namespaces.user != "root":
        pytest.skip("only root can give a cage a user of its own; else a cgroup ends what is left")
    token = f"beside-{os.getpid()}"
    process = warden_without_namespaces.start(LEAVE_A_PROCESS, targets={"token": token}, leave="kill")
    said, _ = process.communicate(timeout=40)

    assert said.strip() == "begun"
    _wait_until_gone(token)


def test_the_code_that_a_program_ends_with_is_the_cages(warden) -> None:
    assert warden.run("import sys; sys.exit(23)")["code"] == 23


def test_a_signal_that_ends_a_program_is_told(warden_with_namespaces) -> None:
    """From outside: the first process of a namespace does not hear its own signals, but for faults."""
    code = "import os\nif os.fork() == 0: os.abort()\nos._exit(128 + os.wait()[1])"

    assert warden_with_namespaces.run(code)["code"] == 128 + signal.SIGABRT


def test_nothing_is_left_on_the_host(warden) -> None:
    code = "import os; os.mkdir('closed'); open('closed/file', 'w').close(); os.chmod('closed', 0)"

    assert warden.run(code)["left"] == []


def test_a_program_that_is_not_there_is_an_error_and_no_cage(warden) -> None:
    code = "import os\nos.execv('/usr/bin/no-such-program', ['x'])"
    end = warden.run(code)

    assert end["code"] != 0
    assert "No such file" in end["stderr"]


def test_where_there_is_no_cage_limits_hold_and_nothing_is_left(warden_without_cages) -> None:
    code = (
        "import json, os, resource; answer = json.loads(os.environ['TARGETS'])['answer']; open('kept', 'w').close();"
        "os.write(answer, json.dumps([os.listdir(), resource.getrlimit(resource.RLIMIT_NOFILE)]).encode())"
    )
    end = warden_without_cages.run(code)

    assert (end["code"], end["said"], end["left"]) == (0, '[["kept"], [128, 128]]', [])
