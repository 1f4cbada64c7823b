"""How a change of the file, of the hour or of who uses the machine takes effect, in virtual time."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio

from meshd_node.charter.conditions import Conditions
from meshd_node.charter.config import CharterConfig
from meshd_node.charter.watch import LOOK_S, CharterWatch
from meshd_node.config import load


class World:
    """A node's folder with a charter, and a machine around it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "node.toml"
        self.input_idle_s = 1e9
        self.changes: list[tuple[CharterConfig, str]] = []
        self.reads = 0
        self.write("[charter]\nslots = 1")
        self.watch = CharterWatch(self.read(), self.file, self.read, self.conditions, self.changed)
        self.reads = 0

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def read(self) -> CharterConfig:
        self.reads += 1
        return load(self.file.parent, {}).charter

    def conditions(self, charter: CharterConfig) -> Conditions:
        """The world begins on a Monday at half past six in the evening."""
        local = datetime(2026, 11, 2, 18, 30) + timedelta(seconds=self.elapsed_s())
        return Conditions(local, self.input_idle_s, 0.0, 1 << 40)

    def elapsed_s(self) -> float:
        return trio.current_time() - self.began

    def changed(self) -> None:
        self.changes.append((self.watch.charter, self.watch.closed))

    began = 0.0


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery, autojump_clock: object) -> World:
    World.began = trio.current_time()
    made = World(tmp_path)
    await nursery.start(made.watch.run)
    return made


async def test_a_new_charter_takes_effect_by_itself(world: World, autojump_clock: object) -> None:
    await trio.sleep(10 * LOOK_S)
    assert (world.reads, world.changes) == (0, []), "a file that does not change is not read"

    world.write("[charter]\nslots = 3\nidle_s = 5")
    await trio.sleep(LOOK_S + 0.1)

    assert world.changes == [(CharterConfig(slots=3, idle_s=5), "")]
    assert world.reads == 1


async def test_a_charter_is_read_at_once_when_asked_for(world: World, autojump_clock: object) -> None:
    world.write("[charter]\nslots = 3")

    assert world.watch.reload() == ""
    assert world.watch.charter.slots == 3
    await trio.sleep(5 * LOOK_S)
    assert world.reads == 1, "nor again for the same change"


@pytest.mark.parametrize("text", ["[charter", "[charter]\nslot = 3", "[charter]\nslots = -7", "\udcff"])
async def test_a_file_that_can_not_be_used_changes_nothing_and_is_told(
    world: World, autojump_clock: object, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.file.write_bytes(text.encode(errors="surrogateescape"))
    await trio.sleep(10 * LOOK_S)

    assert world.watch.charter == CharterConfig(slots=1)
    assert world.changes == []
    assert "node.toml" in world.watch.fault
    assert capsys.readouterr().err.count("charter_refused") == 1, "once for each change of the file"
    assert world.watch.reload() == world.watch.fault

    world.write("[charter]\nslots = 2")
    await trio.sleep(LOOK_S + 0.1)
    assert (world.watch.fault, world.watch.charter.slots) == ("", 2)


async def test_a_file_that_is_taken_away_is_the_default_charter(world: World, autojump_clock: object) -> None:
    world.file.unlink()
    await trio.sleep(LOOK_S + 0.1)

    assert world.watch.charter == CharterConfig()


async def test_hours_begin_and_end_by_themselves(world: World, autojump_clock: object) -> None:
    world.write('[charter]\nhours = ["mon-fri 19:00-20:00"]')
    await trio.sleep(LOOK_S + 0.1)
    assert world.watch.closed.startswith("it lends at certain hours only")
    await trio.sleep(29 * 60)
    assert world.watch.closed
    await trio.sleep(60 + LOOK_S)
    assert world.watch.closed == ""
    await trio.sleep(3_600)

    assert world.watch.closed
    assert len(world.changes) == 3


async def test_whoever_touches_a_key_has_the_machine_within_two_seconds(world: World, autojump_clock: object) -> None:
    world.write("[charter]\nidle_s = 300")
    await trio.sleep(LOOK_S + 0.1)
    assert world.watch.closed == ""
    world.input_idle_s = 0.0
    await trio.sleep(LOOK_S)

    assert world.watch.closed.startswith("somebody uses it")
    world.input_idle_s = 299.0
    await trio.sleep(10 * LOOK_S)
    world.input_idle_s = 300.0
    await trio.sleep(LOOK_S)
    assert [closed != "" for _, closed in world.changes] == [False, True, False]
