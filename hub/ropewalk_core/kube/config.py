"""Config: where the API server is and how it is told who we are, from a kubeconfig or from inside a pod.

Reads files; sends nothing. A token in a file is read again when it is a minute old, because the kubelet replaces it.
Refused by name: what would need another program (exec plugins), and not checking the server's certificate.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ropewalk_core.errors import BadInput
from ropewalk_core.settings import read_environment

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_AGE = 60.0
_REFUSED = ("exec", "auth-provider", "username", "as")


@dataclass
class Token:
    """A bearer token: fixed, from a file that changes, or none.

    Parameters
    ----------
    text
        The fixed token, or what was read last.
    file
        Where it is read from, if anywhere.
    """

    text: str = ""
    file: Path | None = None
    _read_at: float = field(default=float("-inf"), repr=False)

    def current(self, now: float, *, fresh: bool = False) -> str:
        """Return the token, read again from its file when it is old or ``fresh`` is asked; ``now`` is steady time."""
        if self.file is not None and (fresh or now - self._read_at >= TOKEN_AGE):
            try:
                self.text, self._read_at = self.file.read_text().strip() or self.text, now
            except OSError as error:
                if not self.text:
                    raise BadInput(f"The token {self.file} cannot be read: {error.strerror}.") from error
        return self.text


@dataclass(frozen=True)
class Access:
    """The way to one API server."""

    server: str
    context: ssl.SSLContext | None
    token: Token = field(default_factory=Token)
    namespace: str = "default"
    server_name: str = ""


def find(kubeconfig: Path | None = None, *, context: str = "") -> Access:
    """Return the way to the cluster: this kubeconfig, or the service account of the pod that we run in.

    Raises
    ------
    BadInput
        If there is neither, or if it holds something that is not supported; ``field`` names it.
    """
    return from_kubeconfig(kubeconfig, context=context) if kubeconfig else from_pod()


def from_pod(folder: Path = POD_FOLDER, *, environment: Callable[[str], str] = read_environment) -> Access:
    """Return the way that every pod with a mounted service account has."""
    host, port = environment("KUBERNETES_SERVICE_HOST"), environment("KUBERNETES_SERVICE_PORT")
    if not (host and (folder / "token").is_file()):
        raise BadInput(
            "There is no cluster here: this is no pod with a service account, and no kubeconfig is set.",
            field="cluster.kubeconfig",
            hint="Set `cluster.kubeconfig`.",
        )
    namespace = folder / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port or 443}",
        context=_tls(cafile=str(folder / "ca.crt")),
        token=Token(file=folder / "token"),
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
    )


def from_kubeconfig(path: Path, *, context: str = "") -> Access:
    """Return the way that a context of a kubeconfig describes; without a name, its current context."""
    document = _document(path)
    chosen = _named(path, document, "contexts", context or str(document.get("current-context") or ""), "context")
    cluster = _named(path, document, "clusters", str(chosen.get("cluster") or ""), "cluster")
    user = _named(path, document, "users", str(chosen.get("user") or ""), "user")
    for one in _REFUSED:
        if user.get(one):
            raise _wrong(path, f"user.{one}", f"Its user has '{one}', which is not supported.")
    server = str(cluster.get("server") or "").rstrip("/")
    if cluster.get("insecure-skip-tls-verify"):
        raise _wrong(path, "cluster.insecure-skip-tls-verify", "It asks not to check who the API server is.")
    if cluster.get("proxy-url"):
        raise _wrong(path, "cluster.proxy-url", "It asks for a proxy, which is not supported.")
    if not server.startswith(("https://", "http://")):
        raise _wrong(path, "cluster.server", "It names no server.")
    file = user.get("tokenFile")
    return Access(
        server=server,
        context=_context(path, cluster, user) if server.startswith("https://") else None,
        token=Token(str(user.get("token") or ""), path.parent / str(file) if file else None),
        namespace=str(chosen.get("namespace") or "default"),
        server_name=str(cluster.get("tls-server-name") or ""),
    )


def kubeconfig(access: Access, *, token: str, namespace: str) -> str:
    """Return a kubeconfig for a program that goes the same way as somebody else, with a token of theirs."""
    cluster: dict[str, Any] = {"server": access.server}
    if access.context is not None:
        authorities = "".join(ssl.DER_cert_to_PEM_cert(one) for one in access.context.get_ca_certs(binary_form=True))
        cluster["certificate-authority-data"] = base64.b64encode(authorities.encode()).decode()
    cluster |= {"tls-server-name": access.server_name} if access.server_name else {}
    context = {"cluster": "cluster", "user": "user", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "context",
        "contexts": [{"name": "context", "context": context}],
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
    }
    return yaml.safe_dump(document)


def _context(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _content(path, cluster, "certificate-authority")
    context = _tls(cadata=authority) if authority else _tls()
    certificate, key = _content(path, user, "client-certificate"), _content(path, user, "client-key")
    if bool(certificate) != bool(key):
        raise _wrong(path, "user.client-key", "A client's certificate and its key belong together.")
    if certificate:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:  # 0600; the library reads only files
            pair.write(f"{certificate}\n{key}")
            pair.flush()
            try:
                context.load_cert_chain(pair.name)
            except ssl.SSLError as error:
                raise _wrong(path, "user.client-certificate", f"Its certificate cannot be used: {error}.") from error
    return context


def _tls(*, cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile, cadata=cadata)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"The cluster's certificate authority cannot be read: {error}.") from error


def _content(path: Path, part: dict[str, Any], name: str) -> str:
    """Return what a field holds, written into the file or named by it."""
    try:
        if data := part.get(f"{name}-data"):
            return base64.b64decode(str(data), validate=True).decode()
        return (path.parent / str(part[name])).read_text() if part.get(name) else ""
    except (binascii.Error, UnicodeDecodeError, OSError) as error:
        raise _wrong(path, name, f"Its '{name}' cannot be read: {error}.") from error


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong(path, "", f"It cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise _wrong(path, "", "It is no kubeconfig.")
    return document


def _named(path: Path, document: dict[str, Any], group: str, name: str, inner: str) -> dict[str, Any]:
    entries = document.get(group)
    for one in entries if isinstance(entries, list) else []:
        if isinstance(one, dict) and one.get("name") == name and isinstance(one.get(inner), dict):
            return dict(one[inner])
    raise _wrong(path, group, f"There is no {inner} {name!r} in it.")


def _wrong(path: Path, what: str, message: str) -> BadInput:
    return BadInput(
        f"The kubeconfig {path} cannot be used. {message}",
        field=what or "cluster.kubeconfig",
        hint="Give the platform a kubeconfig with a server, its authority, and a token or a certificate.",
    )
