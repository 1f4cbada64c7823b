"""Attacks by programs, and by what they leave to be brought back."""

import sys

import cloudpickle
import psutil
import pytest

from meshd_sdk import OutputMissing, OutputTooLarge

cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Each prints what it reached, and nothing where it is held.
REACHING = {
    "read the key": "cat {key}",
    "read /etc/shadow": "cat /etc/shadow",
    "read environments": "cat /proc/[0-9]*/environ | grep -a {token}",
    "read the key by a root": "cat /proc/[0-9]*/root{key}",
    "find the neighbour's secret": "find / -name 'secret-{token}' | grep .",
    "write to the system": "echo x > /usr/bin/planted && echo wrote; echo x > /etc/planted && echo wrote",
    "write to the node's folder": "echo x > {folder}/planted && echo wrote",
    "become root": "su -c id root < /dev/null | grep uid=0; sudo -n id | grep uid=0",
    "make a namespace": "unshare -Ur id -u",
    "mount": "mount -t tmpfs none /mnt && echo mounted",
    "write to the worker's socket": (
        "for fd in /proc/$PPID/fd/*; do case $(readlink $fd) in socket*) echo x > $fd && echo wrote to $fd;; esac; done"
    ),
    "trace the worker": "gdb -p $PPID -batch 2>/dev/null | grep -i attach; strace -p $PPID -o /dev/null & sleep 0.1",
    "preload a library": "LD_PRELOAD=./none.so su -c id root < /dev/null | grep uid=0",
    "ask for names": "getent hosts example.com",
    "connect": "exec 9<>/dev/tcp/127.0.0.1/{tcp} && echo connected",
}


@pytest.mark.parametrize("attack", REACHING)
def test_a_program_reaches_no_more_than_a_function(arena, verdict, attack) -> None:
    script = REACHING[attack].format(**arena.targets)
    result = arena.attacks(15).command(["bash", "-c", script], outputs=()).result(20)

    verdict(not result.stdout, result.stdout or result.stderr)


LINKS = {
    "symbolic link": "ln -s /proc/self/environ out",
    "symbolic link to the key": "ln -s {key} out",
    "symbolic link to a folder": "ln -s / folder",
    "hard link": "ln /usr/bin/env out",
    "pipe": "mkfifo out",
    "folder": "mkdir out",
    "device": "mknod out c 1 5",
}


@pytest.mark.parametrize("kind", LINKS)
def test_what_is_no_file_is_not_brought_back(arena, verdict, kind) -> None:
    outputs = ["folder/usr/bin/env"] if "folder" in LINKS[kind] else ["out"]
    run = arena.attacks(15).command(["sh", "-c", LINKS[kind].format(**arena.targets) + "; exit 0"], outputs=outputs)
    error = run.exception(20)

    verdict(isinstance(error, OutputMissing), error or run.result().files)


MUCH = {
    "a file with a hole": "truncate -s 500M out",
    "standard output": "yes",
    "standard error": "yes >&2",
}


@pytest.mark.parametrize("kind", MUCH)
def test_more_than_may_travel_is_refused_and_the_reason_says_so(arena, verdict, kind) -> None:
    error = arena.attacks(15).command(["sh", "-c", MUCH[kind]], outputs=["out"]).exception(20)

    verdict(isinstance(error, OutputTooLarge) and "exceeds what a unit may return" in str(error), error)


LEFT = {
    "in the background": "sleep 1000 & exit 0",
    "in a session of its own": "setsid sleep 1000 & sleep 0.1; exit 0",
    "twice removed": "(setsid sh -c 'trap \"\" 1 2 15; setsid sleep 1000 & sleep 1000' &) ; sleep 0.1; exit 0",
    "holding its output": "(setsid sleep 1000 >&1 &); exit 0",
}


@pytest.mark.parametrize("way", LEFT)
def test_what_a_command_leaves_running_ends_with_it(arena, verdict, way) -> None:
    result = arena.attacks(15).command(["sh", "-c", LEFT[way]]).result(20)
    arena.until(lambda: not sleepers(arena))

    verdict(result.exit_code == 0, result.stderr)


def sleepers(arena) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(arena.lender.pid).children(recursive=True):
        try:
            found += [each] if each.name() == "sleep" and each.status() != psutil.STATUS_ZOMBIE else []
        except psutil.NoSuchProcess:
            continue
    return found


ENDLESS = {
    "sleep": "sleep 100",
    "ignore signals": "trap '' 1 2 3 13 15; while :; do :; done",
    "stop itself": "kill -STOP $$",
    "stop its worker": "kill -STOP $PPID; sleep 100",
    "stop everybody": "kill -STOP -1; sleep 100",
    "kill its worker": "kill -9 $PPID; sleep 100",
    "kill everybody": "kill -9 -1; sleep 100",
    "fork bomb": "b() { b | b & }; b; sleep 100",
    "nested folders": "i=0; while [ $i -lt 3000 ]; do mkdir d && cd d; i=$((i+1)); done; sleep 100",
}


@pytest.mark.parametrize("attack", ENDLESS)
def test_a_program_ends_with_its_time_and_its_worker(arena, verdict, attack) -> None:
    unit = arena.attacks(1.5).command(["bash", "-c", ENDLESS[attack]])
    arena.serves()
    error = unit.exception(20)
    reason = str(error) if error else f"exit code {unit.result().exit_code}"
    arena.until(lambda: not sleepers(arena))

    ended = ("ran for longer than its 1.5 s", "SIGKILL", "256 MiB of memory", "exit code -9", "its cage was ended")
    verdict(any(said in reason for said in ended), reason)


def test_inputs_and_outputs_stay_in_the_commands_folder(arena, verdict) -> None:
    refused = []
    for names in ({"../escape": b"x"}, {"/tmp/escape": b"x"}, {"a/../../escape": b"x"}):
        try:
            arena.attacks(15).command(["true"], inputs=names).result(20)
        except (ValueError, OSError) as error:
            refused.append(str(error))
    for outputs in (["../*"], ["/etc/passwd"]):
        try:
            arena.attacks(15).command(["true"], outputs=outputs).result(20)
        except Exception as error:
            refused.append(str(error))

    verdict(len(refused) == 5, refused)
