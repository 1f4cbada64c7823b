"""Why an environment can not be had."""

from meshd_node.errors import MeshdError


class EnvironmentRefused(MeshdError):
    """This node has no such environment and does not make it; the text is for owners, and says what would do."""

    exit_code = 69
