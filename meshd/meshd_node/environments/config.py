"""What a node's operator says of environments."""

from dataclasses import dataclass

from meshd_protocol.limits import ENVIRONMENT_BUILD_S, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentsConfig:
    """Where packages come from, and how much of them is kept. 0 environments: work that needs one is refused."""

    # Where packages are looked for: an index, pypi.org for none, and folders or pages with links to wheels.
    index_url: str = ""
    find_links: tuple[str, ...] = ()
    # Use `find_links` alone.
    offline: bool = False
    # Where environments are kept, an absolute path; `environments` in the node's folder for none. Daemons may share it.
    folder: str = ""
    # How many are kept, and what they may take together and each: PyTorch with CUDA takes 7 GiB.
    number_max: int = 32
    total_mib: int = 40 * 1024
    one_mib: int = 12 * 1024
    # How long one build may take, what it waits for included.
    build_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what can not be."""
        if self.folder and not self.folder.startswith("/"):
            raise ValueError(f"environments.folder must be an absolute path, not {self.folder!r}")
        if not 0 <= self.number_max <= 1_024:
            raise ValueError("environments.number_max must be from 0 to 1024")
        if not 1 <= self.one_mib <= self.total_mib < 1 << 30:
            raise ValueError("environments.one_mib must be at least 1, and total_mib at least as much")
        if not 1 <= self.build_s <= ENVIRONMENT_BUILD_S:
            raise ValueError(f"environments.build_s must be from 1 to {ENVIRONMENT_BUILD_S}")
        for place in (self.index_url, *self.find_links):
            if place.startswith("-") or any(character.isspace() for character in place):
                raise ValueError(f"environments.index_url and find_links are URLs or paths, not {place!r}")

    @property
    def one_bytes(self) -> int:
        """The bound on one environment in bytes."""
        return self.one_mib * MIB

    @property
    def total_bytes(self) -> int:
        """The bound on all environments in bytes."""
        return self.total_mib * MIB
