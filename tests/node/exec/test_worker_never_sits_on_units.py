"""The worker's two threads share one socket: a unit that either of them received must run."""

import pickle
import socket
import threading

from meshd_node.exec.worker import Worker, load_pickled
from meshd_protocol.calls import CallForm
from meshd_protocol.framing import FrameReader
from meshd_protocol.messages.worker import WORKER, Ready, UnitsRun, WorkUnit
from meshd_protocol.values import decode


def test_a_unit_that_the_second_thread_received_last_is_run_though_nothing_more_arrives() -> None:
    """It came between the first thread's last look at the queue and its next wait: it lay there for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs, memoryview(bytearray(8)).cast("Q") as progress:
        ours.settimeout(10)
        worker = Worker(theirs, progress, load_pickled)
        worker._pickles[0] = pickle.dumps(abs)
        payload = bytes([CallForm.CALL]) + pickle.dumps(((-7,), {}))
        worker._waiting.append(WorkUnit(1, 0, payload))
        serving = threading.Thread(target=worker.run)
        serving.start()
        try:
            results = _results(ours)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            serving.join()

    assert [(result.serial, decode(result.value)) for result in results] == [(1, 7)]


def _results(sock: socket.socket) -> list:
    reader = FrameReader(WORKER.frame_bytes_max)
    while True:
        reader.feed(sock.recv(1 << 16))
        for frame in reader.frames():
            match WORKER.decode(frame):
                case UnitsRun(results):
                    return results
                case Ready():
                    continue
