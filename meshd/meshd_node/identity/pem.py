"""Keys and chains as text in files."""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meshd_node.identity.errors import FolderDamaged


def key_to_pem(key: Ed25519PrivateKey) -> bytes:
    """A private key, not encrypted: its file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_pem(data: bytes, path: Path) -> Ed25519PrivateKey:
    """Read a key that came from `path`; raise `FolderDamaged`."""
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FolderDamaged(f"{path} holds no private key", "restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FolderDamaged(f"{path} holds a key that is not Ed25519", "restore it from a backup")
    return key


def chain_to_pem(chain: tuple[bytes, ...]) -> bytes:
    """Certificates in DER as one text."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)


def chain_from_pem(data: bytes, path: Path) -> tuple[bytes, ...]:
    """Read the chain that came from `path`; raise `FolderDamaged`."""
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise FolderDamaged(f"{path} holds no certificate", "restore it from a backup") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
