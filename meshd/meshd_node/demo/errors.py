"""Why the demo did not come to its end."""

from meshd_node.errors import MeshdError


class DemoFailed(MeshdError):
    """Something that should work anywhere did not work here."""

    exit_code = 70
