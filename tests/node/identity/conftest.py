"""A founded mesh in a folder, and a seed that answers on loopback."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshd_node.identity.admission import Admission, Relay
from meshd_node.identity.folder import Identity, NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.issuer import Issuer
from meshd_node.net.tls import server_context
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.certificates import Invited, verify_invite_chain
from meshd_protocol.framing import FrameReader, Message
from meshd_protocol.limits import HELLO_BYTES_MAX
from meshd_protocol.messages.peer import PEER, Hello, Lane, SignRequest


class Entropy:
    """Bytes that differ at each call and are the same in each run."""

    def __init__(self, seed: int = 0) -> None:
        self._next = seed << 32

    def __call__(self, count: int) -> bytes:
        self._next += 1
        return self._next.to_bytes(count, "big")


def founded(path: Path, wall: float, seed: int = 1) -> NodeFolder:
    folder = NodeFolder(path)
    init_mesh(folder, Founding(mesh_name="lab mesh", operator="lab", node_name="first"), wall, Entropy(seed))
    return folder


def admission_of(folder: NodeFolder, seed: int = 9) -> Admission:
    return Admission(Issuer(folder, folder.identity().credentials.root_key, Entropy(seed)))


Answer = Callable[[Invited, SignRequest], Message]


class Seed:
    """One node's door: TLS, hello, one request. `wall` is what its hello says the time is."""

    def __init__(self, identity: Identity, answer: Answer, wall: float | None = None) -> None:
        self.identity, self.answer, self.wall = identity, answer, wall
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Serve one connection at a time until closed."""
        context = server_context(self.identity.credentials)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                self._serve(tls)

    def _serve(self, tls: ssl.SSLSocket) -> None:
        wall = time.time() if self.wall is None else self.wall
        credentials = self.identity.credentials
        tls.sendall(PEER.encode(Hello([PROTOCOL_VERSION], Lane.CONTROL, credentials.issuer, int(wall * 1000))))
        reader, messages = FrameReader(HELLO_BYTES_MAX), []
        while len(messages) < 2:
            data = tls.recv(4096)
            if not data:
                return
            reader.feed(data)
            messages += [PEER.decode(frame) for frame in reader.frames()]
        hello, request = messages
        assert isinstance(hello, Hello)
        assert isinstance(request, SignRequest)
        leaf = tls.getpeercert(binary_form=True)
        assert leaf is not None
        invited = verify_invite_chain(credentials.root_key, (leaf, hello.issuer), time.time())
        self.requests += 1
        tls.sendall(PEER.encode(self.answer(invited, request)))

    def close(self) -> None:
        """End `run`, wherever it is."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def admitting(folder: NodeFolder) -> Answer:
    """Answer as the node of a folder does; it must be the invite's issuer."""
    admission = admission_of(folder)

    def answer(invited: Invited, request: SignRequest) -> Message:
        decided = admission.answer(invited, request, time.time())
        assert not isinstance(decided, Relay)
        return decided

    return answer


@contextmanager
def serving(seed: Seed) -> Iterator[Seed]:
    thread = threading.Thread(target=seed.run)
    thread.start()
    try:
        yield seed
    finally:
        seed.close()
        thread.join()


@pytest.fixture
def entropy() -> Entropy:
    return Entropy(3)


@pytest.fixture
def mesh(tmp_path: Path) -> NodeFolder:
    """A founded mesh, by the real clock: TLS asks it."""
    return founded(tmp_path / "first", time.time())


@pytest.fixture
def world() -> SimpleNamespace:
    """What tests of joining build their seeds from."""
    return SimpleNamespace(Seed=Seed, serving=serving, admitting=admitting, founded=founded)
