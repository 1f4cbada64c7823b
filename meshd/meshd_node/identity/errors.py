"""What goes wrong with identities, each kind with its exit code (sysexits)."""

from meshd_node.errors import MeshdError


class TokenUnusable(MeshdError):
    """The token's text is no token, or what it holds does not fit together."""

    exit_code = 65  # EX_DATAERR


class FolderDamaged(MeshdError):
    """A file of the folder is not what meshd wrote there."""

    exit_code = 65  # EX_DATAERR


class FolderMissing(MeshdError):
    """There is no node in this folder yet."""

    exit_code = 66  # EX_NOINPUT


class NoSeedAnswered(MeshdError):
    """None of the token's seeds could be asked; trying later may help."""

    exit_code = 69  # EX_UNAVAILABLE


class AlreadyANode(MeshdError):
    """The folder holds a node, which is never overwritten."""

    exit_code = 73  # EX_CANTCREAT


class FolderUnusable(MeshdError):
    """The system refuses to read or write the folder, for another reason than permissions."""

    exit_code = 74  # EX_IOERR


class FolderForbidden(MeshdError):
    """This user may not use the folder, or others may read its secrets."""

    exit_code = 77  # EX_NOPERM


class GrantRefused(MeshdError):
    """This node may not invite, or not so."""

    exit_code = 77  # EX_NOPERM


class JoinRefused(MeshdError):
    """The mesh answered, and the answer is no: expired, used up, not granted."""

    exit_code = 77  # EX_NOPERM


class CertificateUnusable(MeshdError):
    """No other node would believe this node's certificate."""

    exit_code = 77  # EX_NOPERM


class BadRequest(MeshdError):
    """An argument is out of its bounds."""

    exit_code = 64  # EX_USAGE
