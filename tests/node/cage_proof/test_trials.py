"""Cages attacked for real, by every maker that there is here, and cages that are none."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshd_node.exec.cage import bait, trial
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.cage.plain import Plain
from meshd_node.exec.cage.proof import Proof, best, prove, prove_in_turn
from meshd_node.exec.cage.spec import CageSpec, Maker
from meshd_protocol.records import CageLevel


@pytest.fixture(scope="module")
def cgroups() -> Iterator[Cgroups | None]:
    found = Cgroups.find()
    yield found
    if found is not None:
        found.close()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    left = [pid for pid in os.listdir("/proc") if pid.isdecimal() and _is_attacker_of_ours(pid)]
    assert not left


def _is_attacker_of_ours(pid: str) -> bool:
    """By its command, which names the folder with the baits and so this process."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2][0]
    except OSError:
        return False
    return f"meshd-trial-{os.getpid()}-".encode() in command and state != "Z"


class Saying:
    """A maker whose cages are a shell that does what is written here."""

    name = "saying"

    def __init__(self, script: str) -> None:
        self._script = script

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["/bin/sh", "-c", self._script], stderr=spec.stderr, pass_fds=spec.pass_fds)

    def clear(self, spec: CageSpec) -> None:
        pass


def missing(proof: Proof) -> dict[str, str]:
    return {layer.name: layer.detail for layer in proof.layers if not layer.active}


@pytest.mark.parametrize("maker", makers(), ids=lambda maker: maker.name)
def test_every_makers_cages_keep_what_their_level_says(maker: Maker, cgroups: Cgroups | None) -> None:
    proof = prove(maker, cgroups)
    if proof.fault:
        pytest.skip(f"no cage by {maker.name} here: {proof.fault}")

    if maker.name == "plain":
        assert proof.level < CageLevel.CONFINED
    elif maker.name == "confined":
        assert proof.level is CageLevel.CONFINED
        assert {"namespaces", "scratch"} <= missing(proof).keys()
    else:
        assert proof.level is CageLevel.STRICT, missing(proof)


def test_without_a_cage_the_attacks_come_through(cgroups: Cgroups | None) -> None:
    """What an attack can not do anywhere would prove nothing by failing in a cage."""
    absent = missing(prove(Plain(), cgroups))

    assert {
        "files",
        "read-only system",
        "other processes",
        "network",
        "unix sockets",
        "system calls",
        "landlock",
        "namespaces",
        "scratch",
    } <= absent.keys()
    for attack in ("read a private file", "connect by TCP", "send by UDP", "kill a process", "abstract unix socket"):
        assert any(attack in detail for detail in absent.values()), attack


def test_attacks_that_come_through_leave_nothing_behind() -> None:
    folders = [Path(folder) for folder in ("/", "/etc", "/usr", "/dev")]
    before = {folder: set(os.listdir(folder)) for folder in folders}

    prove(Plain(), None)

    assert not {name for folder in folders for name in set(os.listdir(folder)) - before[folder] if "meshd" in name}


def test_a_cage_that_says_why_it_can_not_be_is_quoted() -> None:
    proof = prove(Saying("echo first >&2; echo 'cage: no such thing' >&2; exit 1"), None)

    assert proof.fault == "it ended early: cage: no such thing"
    assert proof.level < CageLevel.CONFINED


def test_a_cage_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """bubblewrap waits for ever where it is refused a call that it needs."""
    monkeypatch.setattr(trial, "_TRIAL_S", 0.2)

    proof = prove(Saying("exec sleep 60"), None)

    assert "did not answer" in proof.fault
    assert proof.level < CageLevel.CONFINED


def test_a_warden_without_network_proves_its_cages_all_the_same(
    monkeypatch: pytest.MonkeyPatch, cgroups: Cgroups | None
) -> None:
    """Its systemd unit has none (PrivateNetwork=yes): nothing can listen, and nothing can be reached."""

    class Unconnected(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == socket.AF_INET:
                raise OSError(errno.EADDRNOTAVAIL, "no network")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(bait.socket, "socket", Unconnected)

    proof = prove(Plain(), cgroups)

    assert not proof.fault
    assert "connect by TCP" not in missing(proof)["network"]
    assert "connected" in missing(proof)["unix sockets"]


def test_a_maker_whose_program_is_not_there_has_no_cages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Saying):
        def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(["/nowhere/bwrap"])

    assert "/nowhere/bwrap" in prove(Absent(""), None).fault


@pytest.mark.parametrize("word", ["[]", "5", '"begin"', "nonsense", '{"attack": 1}', '{"begin": true}'])
def test_words_that_make_no_sense_prove_nothing(word: str) -> None:
    """Nobody but our own script speaks there, but then what it attacks from is what is to be proved."""

    class Speaking(Saying):
        def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
            code = f"import os; os.write({spec.pass_fds[0]}, {word.encode()!r})"
            return subprocess.Popen([sys.executable, "-IS", "-c", code], pass_fds=spec.pass_fds)

    proof = prove(Speaking(""), None)

    assert proof.fault
    assert proof.level < CageLevel.CONFINED


def test_work_that_dies_half_way_leaves_a_fault_and_no_level() -> None:
    class Dying(Plain):
        def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
            return super().start(replace(spec, argv=(*spec.argv[:-1], "{}")))

    proof = prove(Dying(), None)

    assert proof.fault.startswith("it ended early: KeyError")
    assert proof.level < CageLevel.CONFINED


def test_makers_are_tried_until_one_is_strict(cgroups: Cgroups | None) -> None:
    proofs = prove_in_turn([Saying("exit 1"), *makers()], cgroups)

    assert proofs[0].fault
    assert all(proof.level < CageLevel.STRICT for proof in proofs[:-1])
    assert best(proofs).level == max(proof.level for proof in proofs)


def test_a_cage_that_leaves_processes_behind_is_said_to_and_they_are_ended() -> None:
    class Forgetful(Plain):
        """Does not end what outlived the first process."""

        def clear(self, spec: CageSpec) -> None:
            pass

    assert "one lives on" in missing(prove(Forgetful(), None))["end"]
