"""How wide the directory searches, how much it keeps, and for how long. Names end in their unit."""

from dataclasses import dataclass, fields

from meshd_node.errors import ConfigError
from meshd_protocol.limits import CONTACTS_PER_MESSAGE_MAX, RECORD_TTL_S_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryConfig:
    """The defaults hold for 1 to 100,000 nodes."""

    # --- the routing table ---
    # Contacts of a bucket, and nodes that hold one record (Kademlia's k).
    k: int = CONTACTS_PER_MESSAGE_MAX
    # Buckets are split down to this many bits beside the own path: 2**bits times the contacts, one hop less for each.
    bits: int = 2
    # A contact goes after so many questions in a row without an answer.
    strikes: int = 2
    # The least recently seen contact of a full bucket is asked for a sign of life if it was not seen for so long.
    stale_s: float = 900.0
    # Every bucket in which nothing was looked for is looked into so often.
    refresh_s: float = 3_600.0

    # --- lookups ---
    # Questions under way at a time (Kademlia's alpha), on each path where there are several.
    alpha: int = 5
    path_alpha: int = 2
    # Paths that share no node, for reads that matter (S/Kademlia's d).
    paths: int = 4
    # After so long without an answer another is asked beside it; after `late_s` the lookup goes on without one.
    hedge_s: float = 0.25
    late_s: float = 0.75
    # An answer that comes within this still counts, and shows that its sender lives.
    answer_s: float = 3.0
    lookup_s: float = 10.0
    # A read that is in a hurry is content with what so many nodes gave it: one alone may hand out what is outdated.
    voices: int = 3
    # On each path; a lookup among 5,000 honest nodes asks about 30.
    questions_max: int = 64
    # Whoever hinted at so many contacts that did not answer, and at less than a third as many that did, made them up.
    blame_min: int = 4
    # Once in a search is bad luck where many have just died; so often, and nobody listens to it for `distrust_s`.
    exposures: int = 3
    distrust_s: float = 600.0
    distrusted_max: int = 1_000

    # --- work at a time ---
    searches_max: int = 16
    background_max: int = 3
    waiting_max: int = 1_024

    # --- what this node publishes ---
    ttl_s: float = 6 * 3_600.0
    republish_s: float = 2 * 3_600.0
    # When nobody else took a copy.
    retry_s: float = 30.0
    # A node that starts looks around and publishes after this time, and again when its mesh has grown so much that
    # other nodes are nearest now; each times a random 0.5 to 1. Both mean sessions with 20 nodes and more, and nodes of
    # one mesh often start together: 50 on one machine are 1,200 handshakes.
    settle_s: float = 40.0
    own_max: int = 1_024

    # --- what it keeps for others ---
    # Each salt counts; a node publishes a contact, its capability, and its open jobs and blobs at various places.
    publisher_records_max: int = 64
    key_publishers_max: int = 32
    records_max: int = 50_000
    record_bytes_max: int = 32 << 20

    def __post_init__(self) -> None:
        """Refuse what can not work."""
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigError(f"directory.{field.name} must be above 0")
        if self.k > CONTACTS_PER_MESSAGE_MAX:
            raise ConfigError(f"directory.k must not be above {CONTACTS_PER_MESSAGE_MAX}")
        if not self.hedge_s <= self.late_s <= self.answer_s <= self.lookup_s:
            raise ConfigError("directory.hedge_s, late_s, answer_s and lookup_s must be in this order")
        if not self.republish_s < self.ttl_s <= RECORD_TTL_S_MAX:
            raise ConfigError(f"directory.ttl_s must be above republish_s and not above {RECORD_TTL_S_MAX}")
