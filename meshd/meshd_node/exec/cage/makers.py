"""All ways to make cages that there are here, best first. Which of them work is found by trying: see `proof`."""

from meshd_node.exec.cage.bubblewrap import bubblewraps
from meshd_node.exec.cage.confined import Confined
from meshd_node.exec.cage.namespaces import namespaces
from meshd_node.exec.cage.plain import Plain
from meshd_node.exec.cage.spec import Maker


def makers() -> list[Maker]:
    """Makers that may work for this user on this system. The last one always does, and is no cage."""
    return [*bubblewraps(), *namespaces(), Confined(), Plain()]
