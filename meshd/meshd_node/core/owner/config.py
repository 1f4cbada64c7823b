"""The owner's figures: how long it waits, how often it tries, how much it keeps."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerConfig:
    """The defaults hold for meshes of 2 to 1,000 nodes."""

    lease_min_s: float = 60.0
    lease_max_s: float = 24 * 3_600.0
    # A stranger that answers pings but not for a unit without a time limit is believed to work for this long.
    stranger_patience_s: float = 24 * 3_600.0
    # Copies beyond those asked for, to settle a disagreement.
    copies_extra: int = 3
    # Attempts of one unit, whatever their end: what nobody is charged for must end as well.
    attempts_max: int = 256
    # Units of one replicated job that were started and wait for a further copy: their first results are kept in memory.
    half_done_max: int = 4_096
    # A node that refuses a job gets nothing of it for this long, doubled each time.
    backoff_min_s: float = 0.25
    backoff_max_s: float = 300.0
    # A worker's death hands back what was queued behind it: that many times in a row are no reason for a pause.
    hand_backs_free: int = 3
    # Sessions that are asked for while units wait, besides those that membership keeps anyway. One that did not come
    # about is not asked for again within `reach_again_s`.
    links_max: int = 256
    reach_again_s: float = 30.0
    # How often a node's speed is compared with what others show in the same job.
    look_s: float = 5.0
    # Kept for `why`: the last verdicts of each job, single ones by batch and others by unit.
    verdict_batches_kept: int = 64
    verdict_units_kept: int = 1_024
