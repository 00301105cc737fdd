"""Our OpenID Connect issuer: accounts, sign-ins, tokens and clients; the one way into the platform.

All of its state is in the journal, hashed where it is secret. It runs inside the platform process. It must not know
JupyterHub or pages beyond its own. Rejected: Dex or Keycloak beside us (another process, another store, another
language, for accounts of one machine); federation to an upstream will come inside this one.
"""

from ropewalk_hub.issuer.service import Issuer

__all__ = ["Issuer"]
