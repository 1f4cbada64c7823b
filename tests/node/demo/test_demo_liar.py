"""The liar is a worker that alters results, and only results; nothing but the demo's own program leads to it."""

import inspect
import socket
import subprocess
import sys
from pathlib import Path

from meshd_node.config import NodeConfig
from meshd_node.demo.counting import count_identifiers
from meshd_node.demo.liar import Liar, altered
from meshd_node.exec.worker import Worker, load_pickled
from meshd_node.toml_tree import leaves
from meshd_protocol import values
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkUnit

COUNTS = [{"self": number, "other": 2} for number in range(1, 200)]


def outcome_of(kind: type[Worker], function: object, argument: object) -> tuple[AttemptStatus, bytes, str]:
    import pickle

    from meshd_protocol.calls import CallForm

    ours, theirs = socket.socketpair()
    with ours, theirs, memoryview(bytearray(8)).cast("Q") as progress:
        worker = kind(theirs, progress, load_pickled)
        worker._pickles[0] = pickle.dumps(function)
        return worker._outcome(WorkUnit(1, 0, bytes([CallForm.CALL]) + pickle.dumps(((argument,), {}))))


def test_one_in_three_results_is_altered() -> None:
    lies = sum(altered(values.encode(counts)) != values.encode(counts) for counts in COUNTS)

    assert len(COUNTS) / 5 < lies < len(COUNTS) / 2


def test_a_lie_is_the_same_each_time_and_plausible() -> None:
    for counts in COUNTS:
        value = values.encode(counts)
        lie = values.decode(altered(value))
        assert altered(value) == altered(value)
        assert isinstance(lie, dict)
        assert lie.keys() == counts.keys()
        wrong = {name for name in counts if lie[name] != counts[name]}
        assert wrong <= {max(counts, key=lambda name: (counts[name], name))}
        assert all(counts[name] < lie[name] <= counts[name] * 1.1 + 1 for name in wrong)


def test_only_counts_are_altered() -> None:
    for value in (None, 7, "text", {}, [1, 2], {"a": "b"}, {"a": True}, {"a": 1.5}):
        assert all(altered(values.encode(value)) == values.encode(value) for _ in range(3))


def test_the_liar_does_all_else_as_a_worker_does() -> None:
    assert outcome_of(Liar, len, "abc") == outcome_of(Worker, len, "abc")
    status, value, _ = outcome_of(Liar, len, 7)
    assert (status, value) == outcome_of(Worker, len, 7)[:2]
    assert status is AttemptStatus.RAISED
    assert {name for name in vars(Liar) if inspect.isfunction(vars(Liar)[name])} == {"_outcome"}


def test_the_liar_runs_the_unit_and_alters_what_came_of_it() -> None:
    sources = [f"x = {'y, ' * number}" for number in range(1, 30)]
    honest = [outcome_of(Worker, count_identifiers, source) for source in sources]

    told = [outcome_of(Liar, count_identifiers, source) for source in sources]

    assert [value for _, value, _ in told] == [altered(value) for _, value, _ in honest]
    assert told != honest


def test_no_setting_of_the_daemon_names_another_worker() -> None:
    names = {".".join(path) for path, _ in leaves(NodeConfig)}

    assert "charter.slots" in names
    assert not {name for name in names if "module" in name or "demo" in name or "lie" in name or "liar" in name}


def test_a_daemon_does_not_load_the_demo() -> None:
    script = "import sys, meshd_node.cli.up; print([name for name in sys.modules if 'demo' in name])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"

    package = Path(inspect.getfile(NodeConfig)).parent
    naming = {
        path.relative_to(package).parts[0] for path in package.rglob("*.py") if "meshd_node.demo" in path.read_text()
    }
    assert naming <= {"demo", "cli"}
