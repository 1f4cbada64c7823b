"""Joining a mesh: a token becomes a node. Blocking: nothing else runs in a process that joins."""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.identity.errors import JoinRefused, NoSeedAnswered, TokenUnusable
from meshd_node.identity.folder import Facts, Identity, NodeFolder
from meshd_node.identity.founding import require_label
from meshd_node.identity.redeeming import JoinConfig, Refused, SeedFailed, ask_seed
from meshd_node.net.tls import Credentials
from meshd_protocol.certificates import Certified, Invited, verify_invite_chain, verify_node_chain
from meshd_protocol.errors import CertificateOutOfDate, CertificateRefused, MalformedToken
from meshd_protocol.issuing import joining_request
from meshd_protocol.messages.peer import SignRefusalCode
from meshd_protocol.tokens import Token, decode_token

_ASK_NEW = "ask for a new one: `meshd invite` on the node that made it"
_HINTS = {
    SignRefusalCode.USED_UP: _ASK_NEW,
    SignRefusalCode.EXPIRED: _ASK_NEW,
    SignRefusalCode.REVOKED: "ask the person who invited you",
    SignRefusalCode.MALFORMED: "use the same release of meshd on both machines",
    SignRefusalCode.NOT_GRANTABLE: _ASK_NEW,
}


def join_mesh(
    folder: NodeFolder,
    text: str,
    node_name: str,
    wall: float,
    entropy: Callable[[int], bytes],
    config: JoinConfig | None = None,
) -> Identity:
    """Redeem a token and make the folder a node of its mesh. May be repeated after any failure with the same token."""
    require_label(node_name)
    token = read_token(text)
    check_token(token, wall)
    folder.prepare()
    chain = redeem(token, folder.node_key(entropy), node_name, wall, config or JoinConfig())
    facts = Facts(token.name, token.root_key.hex(), node_name, list(token.seeds))
    folder.become_node(facts, chain)
    return folder.identity()


def read_token(text: str) -> Token:
    """Read what a person pasted; raise `TokenUnusable`."""
    try:
        return decode_token(text)
    except MalformedToken as error:
        raise TokenUnusable(str(error)) from error


def check_token(token: Token, wall: float) -> Invited:
    """Verify what can be verified without asking anybody: whether the token fits together and is in time."""
    try:
        invited = verify_invite_chain(token.root_key, token.chain, wall)
    except CertificateOutOfDate as error:
        raise JoinRefused(
            f"this token is out of date: {error}", f"check this machine's clock, else {_ASK_NEW}"
        ) from error
    except CertificateRefused as error:
        raise TokenUnusable(
            f"this token was not made by its mesh: {error}", "do not trust where it came from"
        ) from error
    if invited.key != token.private_key().public_key():
        raise TokenUnusable("this token's key is not that of its invite", "do not trust where it came from")
    return invited


def redeem(token: Token, key: Ed25519PrivateKey, node_name: str, wall: float, config: JoinConfig) -> tuple[bytes, ...]:
    """Hand a signing request to the first seed that can answer; return the verified chain."""
    invited = check_token(token, wall)
    request = joining_request(key, token.private_key(), token.mesh, node_name)
    credentials = Credentials(token.root_key, token.chain, token.private_key())
    failures: list[str] = []
    for seed in token.seeds:
        try:
            grant = ask_seed(seed, credentials, request, wall, config)
        except SeedFailed as error:
            failures.append(f"{seed}: {error}")
        except Refused as error:
            raise JoinRefused(f"{seed} refuses: {error}", _HINTS[error.code]) from error
        else:
            return _verified(token, invited, key, tuple(grant.certificates), wall).chain
    raise NoSeedAnswered(
        "no seed of this token let us join: " + "; ".join(failures),
        "see that one of them is up and reachable from here",
    )


def _verified(
    token: Token, invited: Invited, key: Ed25519PrivateKey, chain: tuple[bytes, ...], wall: float
) -> Certified:
    try:
        certified = verify_node_chain(token.root_key, chain, wall)
    except CertificateRefused as error:
        raise JoinRefused(f"the certificate that came back can not be used: {error}", "check both clocks") from error
    promised = (key.public_key(), invited.operator, invited.roles)
    if (certified.key, certified.operator, certified.roles) != promised:
        raise JoinRefused("the certificate that came back is not what the token promised", _ASK_NEW)
    return certified
