"""Submitting while another thread shuts down."""

import pytest

from meshd_protocol.messages.local import CloseJob, SubmitUnits
from meshd_sdk import MeshClosed
from meshd_sdk.functions import pickle_function
from meshd_sdk.payloads import call_payload


def test_a_unit_that_comes_after_the_closing_fails_and_never_reaches_the_daemon(daemon, mesh) -> None:
    """The daemon expects none any more: it was never answered, and a shutdown waited for it for ever."""
    assert mesh.submit(abs, -1).result(10) == 1
    stream = mesh._stream
    function, payload = pickle_function(abs), call_payload((-2,), {})

    stream.close()
    late = stream.submit(function, payload)

    with pytest.raises(MeshClosed, match="after shutdown"):
        late.result(10)
    mesh.shutdown()
    assert daemon.connections[0].ended.wait(10)
    assert [len(message.units) for message in daemon.of_kind(SubmitUnits)] == [1]
    assert len(daemon.of_kind(CloseJob)) == 1
