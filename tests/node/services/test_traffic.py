from meshd_node.services.traffic import Traffic
from meshd_protocol.messages.membership import Load, Probe, ProbeAck


def test_what_is_sent_is_counted_by_kind_the_largest_share_first() -> None:
    traffic = Traffic()
    for message, size in [(Probe(1), 14), (ProbeAck(1, Load(0, 0)), 90), (Probe(2), 16)]:
        traffic.sent(message, size)

    assert list(traffic.by_kind().items()) == [("ProbeAck", (1, 90)), ("Probe", (2, 30))]
