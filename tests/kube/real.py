"""A real etcd, API server and its controllers for quotas and namespaces, on free ports of the loopback.

No node, no scheduler: enough for what the API server itself decides. The programs are those of the test cluster. All
of them end with the process that started them.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.cluster.builder import Builder
from tests.cluster.layout import layout
from tests.ports import free_port

_WEEK = datetime.timedelta(days=7)


class Authority:
    """A certificate authority of one test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("ropewalk-test-ca")
        self._certificate = (
            _started(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *groups: str) -> tuple[bytes, bytes]:
        """Return a certificate and its key, good for the loopback and as a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            _started(_name(name, *groups), self._name, key, self._key)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


class Cluster:
    """A running API server: where it is, and kubeconfigs for people."""

    def __init__(self, folder: Path, port: int, authority: Authority) -> None:
        self.server, self._folder, self._authority = f"https://127.0.0.1:{port}", folder, authority
        self._parts: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = {}

    def kubeconfig(self, name: str, *groups: str, token: str = "") -> Path:
        """Return a kubeconfig for a user with a certificate, or for the holder of a token."""
        certificate, key = self._authority.issue(name, *groups)
        user = (
            {"token": token} if token else {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
        )
        cluster = {"server": self.server, "certificate-authority-data": _b64(self._authority.pem)}
        path = self._folder / f"{name.replace(':', '-')}.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": user}],
                }
            )
        )
        return path

    def start(self, name: str, argv: list[str] | None = None) -> None:
        """Start a part, or start it again."""
        argv = argv or self._parts[name][0]
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], stdout=log, stderr=log)
        self._parts[name] = argv, process

    def stop(self, name: str) -> None:
        """Kill a part."""
        process = self._parts[name][1]
        process.kill()
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a part a signal."""
        self._parts[name][1].send_signal(number)

    def wait(self, name: str, url: str, seconds: float = 90) -> None:
        """Wait until a part answers."""
        context = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._parts[name][1].poll() is None:
            try:
                if httpx.get(url, verify=context, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        said = (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]
        raise AssertionError(f"{name} does not answer at {url}: {said}")

    def end(self) -> None:
        """End every part."""
        for name in reversed(self._parts):
            self.stop(name)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Run an API server in this folder."""
    builder = Builder(layout())
    lacking = [one for one in ("etcd", "kube-apiserver", "kube-controller-manager") if not builder.binary(one).exists()]
    assert not lacking, f"{', '.join(lacking)} is not built: make cluster builds it"
    authority = Authority()
    etcd, port = free_port(), free_port()
    peer, healthz = etcd + 1, port + 1
    cluster = Cluster(folder, port, authority)
    _write_keys(folder, authority)
    try:
        _start_etcd(cluster, builder.binary("etcd"), folder, etcd, peer)
        _start_api_server(cluster, builder.binary("kube-apiserver"), folder, etcd, port)
        _start_controllers(cluster, builder.binary("kube-controller-manager"), folder, healthz)
        yield cluster
    finally:
        cluster.end()


def _start_etcd(cluster: Cluster, binary: Path, folder: Path, port: int, peer: int) -> None:
    urls = [f"--{kind}-client-urls=http://127.0.0.1:{port}" for kind in ("listen", "advertise")]
    peers = f"http://127.0.0.1:{peer}"
    rest = [
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]
    data = folder / "etcd"
    data.mkdir(mode=0o700)
    cluster.start("etcd", [str(binary), f"--data-dir={data}", *urls, *rest, "--unsafe-no-fsync", "--log-level=warn"])
    cluster.wait("etcd", f"http://127.0.0.1:{port}/readyz")


def _start_api_server(cluster: Cluster, binary: Path, folder: Path, etcd: int, port: int) -> None:
    cluster.start(
        "kube-apiserver",
        [
            str(binary),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://test",
            f"--service-account-key-file={folder / 'sa.pub'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",  # else nothing privileged comes as far as what we test
            "--profiling=false",
        ],
    )
    cluster.wait("kube-apiserver", f"{cluster.server}/readyz")


def _start_controllers(cluster: Cluster, binary: Path, folder: Path, port: int) -> None:
    kubeconfig = cluster.kubeconfig("controllers", "system:masters")
    cluster.start(
        "controllers",
        [
            str(binary),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--controllers=resourcequota-controller,namespace-controller,serviceaccount-controller",
            f"--service-account-private-key-file={folder / 'sa.key'}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            "--profiling=false",
        ],
    )
    cluster.wait("controllers", f"https://127.0.0.1:{port}/healthz")


def _write_keys(folder: Path, authority: Authority) -> None:
    certificate, key = authority.issue("kube-apiserver")
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = {"ca.crt": authority.pem, "server.crt": certificate, "server.key": key, "sa.key": _pem(accounts)}
    for name, content in (parts | {"sa.pub": public}).items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)


def _name(name: str, *groups: str) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _started(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuers_key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _WEEK)
        .not_valid_after(now + _WEEK)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
