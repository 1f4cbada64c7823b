"""Who this node is on the wire: its credentials, what they prove, and a TLS context for each direction."""

import ssl

from meshd_node.net.tls import Credentials, client_context, server_context
from meshd_protocol.certificates import Certified, verify_node_chain


class Identity:
    """Our own certificate, verified as every peer will verify it. Replaced as a whole when it is renewed."""

    def __init__(self, credentials: Credentials, wall: float) -> None:
        """Raise `CertificateRefused` if no peer would believe us."""
        self.credentials = credentials
        self.certified: Certified = verify_node_chain(credentials.root_key, credentials.chain, wall)
        self.client: ssl.SSLContext = client_context(credentials)
        self.server: ssl.SSLContext = server_context(credentials)
