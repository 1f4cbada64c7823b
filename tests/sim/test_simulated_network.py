"""Sessions of the simulated network: what a machine's host may rely on, and what it may not."""

from collections.abc import Sequence

import pytest

from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Probe
from meshd_sim.conditions import Conditions, Model
from meshd_sim.engine import Engine
from meshd_sim.network import Network
from meshd_sim.ports import Port


def address(number: int) -> str:
    return f"10.0.0.{number}:7423"


class Process:
    """Writes down what it is told."""

    def __init__(self, engine: Engine, port: Port) -> None:
        self.told: list[str] = []
        self.at: list[float] = []
        self.heard: list[int] = []
        self._engine = engine
        port.endpoint = self

    def admits(self, node: NodeId) -> bool:
        return True

    def link_up(self, node: NodeId, address: str) -> None:
        self._note(f"up {node[0]}")

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        self._note(f"down {node[0]}")

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        self._note("refused" if refused else "failed")

    def messages(self, node: NodeId, batch: list[tuple[Message, int]]) -> None:
        self.heard += [message.sequence for message, _ in batch if isinstance(message, Probe)]

    def thawed(self) -> None:
        self._note("thawed")

    def _note(self, what: str) -> None:
        self.told.append(what)
        self.at.append(self._engine.now)


class Few:
    """A few machines, each with a process."""

    def __init__(self, count: int = 3, conditions: Conditions | None = None) -> None:
        self.engine = Engine(1)
        self.network = Network(self.engine, conditions or Conditions())
        self.ports = [self.network.attach(NodeId(bytes([n]) * 20), address(n)) for n in range(count)]
        self.processes = [Process(self.engine, port) for port in self.ports]

    def connect(self, a: int, b: int) -> None:
        self.dial(a, b)
        self.engine.run(self.engine.now + 1.0)

    def dial(self, a: int, b: int) -> None:
        self.ports[a].dial(self.ports[b].node, (address(b),))

    def say(self, a: int, b: int, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self.ports[a].write(self.ports[b].node, Probe(sequence))
            self.ports[a].flush()

    def run(self, seconds: float) -> None:
        self.engine.run(self.engine.now + seconds)

    def pipe(self, a: int, b: int):
        return self.ports[a].pipes[self.ports[b].node]


@pytest.fixture
def few() -> Few:
    return Few()


def test_both_sides_are_up_after_one_dial_and_hear_each_other(few) -> None:
    few.connect(0, 1)
    few.say(0, 1, [1, 2, 3])
    few.say(1, 0, [4])
    few.run(1.0)

    assert few.processes[0].told == ["up 1"]
    assert few.processes[1].told == ["up 0"]
    assert few.processes[1].heard == [1, 2, 3]
    assert few.processes[0].heard == [4]


@pytest.mark.parametrize("first", ["node", "address"])
def test_crossing_dials_end_in_one_session(few, first) -> None:
    """Whether the diallers know whom they will find or not; two sessions would lose what is said in one of them."""
    few.ports[0].dial(few.ports[1].node if first == "node" else None, (address(1),))
    few.ports[1].dial(None, (address(0),))
    few.run(10.0)
    few.say(0, 1, [1])
    few.say(1, 0, [2])
    few.run(1.0)

    assert [process.told for process in few.processes[:2]] == [["up 1"], ["up 0"]]
    assert (few.processes[1].heard, few.processes[0].heard) == ([1], [2])


def test_a_dead_process_refuses_and_a_dead_machine_lets_the_dial_time_out(few) -> None:
    few.network.kill(few.ports[1])
    few.network.power_off(few.ports[2])
    few.dial(0, 1)
    few.dial(0, 2)
    few.run(10.0)

    assert few.processes[0].told == ["refused", "failed"]
    assert few.processes[0].at[1] == few.network.conditions.dial_timeout_s


def test_a_stall_delays_and_then_delivers_all_of_it_in_order(few) -> None:
    few.connect(0, 1)
    few.say(0, 1, range(5))
    few.network.stall(few.pipe(0, 1), 3.0)
    few.say(0, 1, range(5, 10))
    few.run(2.9)
    assert few.processes[1].heard == []
    few.run(0.2)

    assert few.processes[1].heard == list(range(10))
    assert few.processes[1].told == ["up 0"]


def test_a_reset_ends_the_session_for_both_and_loses_what_was_on_its_way(few) -> None:
    few.connect(0, 1)
    few.say(0, 1, [1])
    few.network.reset(few.pipe(0, 1))
    few.run(1.0)

    assert few.processes[0].told == ["up 1", "down 1"]
    assert few.processes[1].told == ["up 0", "down 0"]
    assert few.processes[1].heard == []


def test_a_half_open_session_is_noticed_by_silence_alone(few) -> None:
    few.connect(0, 1)
    few.network.half_open(few.pipe(0, 1))
    few.say(0, 1, [1])
    few.run(few.network.conditions.silence_first_s - 0.1)
    assert few.processes[0].told == ["up 1"]
    few.run(few.network.conditions.silence_last_s)

    assert few.processes[0].told == ["up 1", "down 1"]
    assert few.processes[1].told == ["up 0", "down 0"]
    assert few.processes[1].heard == []


def test_a_short_cut_is_only_a_delay_and_a_long_one_ends_the_session(few) -> None:
    few.connect(0, 1)
    both = [few.ports[0].node], [few.ports[1].node]
    cut = few.network.cut(*both)
    few.say(0, 1, [1])
    few.run(5.0)
    few.network.mend(cut)
    few.run(5.0)
    assert few.processes[1].heard == [1]

    few.network.cut(*both)
    few.say(0, 1, [2])
    few.run(20.0)
    assert few.processes[1].told == ["up 0", "down 0"], "nothing was heard for too long"
    assert few.processes[0].told == ["up 1", "down 1"], "the other direction brought the news"
    assert few.processes[1].heard == [1]


def test_no_session_begins_across_a_cut_in_either_direction(few) -> None:
    few.network.cut([few.ports[1].node], [few.ports[0].node])
    few.dial(0, 1)
    few.run(10.0)

    assert few.processes[0].told == ["failed"]
    assert few.processes[1].told == []


def test_a_frozen_process_hears_everything_when_it_thaws_before_its_timers(few) -> None:
    few.connect(0, 1)
    few.network.freeze(few.ports[1])
    few.say(0, 1, [1, 2])
    few.run(5.0)
    assert few.processes[1].heard == []
    few.network.thaw(few.ports[1])

    assert few.processes[1].heard == [1, 2]
    assert few.processes[1].told == ["up 0", "thawed"]


def test_answers_of_an_old_session_never_reach_a_new_one(few) -> None:
    """dask#6263: a reconnect is a new session, and old answers are dropped."""
    few.connect(0, 1)
    few.network.stall(few.pipe(1, 0), 5.0)
    few.say(1, 0, [1])
    few.ports[0].close(few.ports[1].node)
    few.run(1.0)
    few.connect(0, 1)
    few.say(1, 0, [2])
    few.run(10.0)

    assert few.processes[0].told == ["up 1", "down 1", "up 1"]
    assert few.processes[0].heard == [2]


def test_datagrams_are_lost_doubled_and_out_of_order() -> None:
    few = Few(conditions=Conditions(model=Model.DATAGRAM, loss=0.2, duplication=0.2, straggling=0.3))
    few.connect(0, 1)
    few.say(0, 1, range(200))
    few.run(5.0)

    heard = few.processes[1].heard
    assert 100 < len(set(heard)) < 200
    assert len(heard) > len(set(heard))
    assert heard != sorted(heard)


def test_bytes_are_those_of_the_real_codec_and_of_the_records_around_them(few) -> None:
    few.connect(0, 1)
    few.say(0, 1, [1])
    few.ports[0].write(few.ports[1].node, Probe(2))
    few.ports[0].write(few.ports[1].node, Probe(3))
    few.ports[0].flush()

    traffic = few.network.traffic
    assert traffic.messages == {"Probe": 3}
    assert traffic.records == 2, "what is written together leaves in one record"
    assert few.ports[0].sent_bytes == traffic.bytes["Probe"] + 2 * 22
