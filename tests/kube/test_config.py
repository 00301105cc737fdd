"""The way to the cluster: kubeconfigs, pods, tokens that change, and what is refused by name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from ropewalk_core.errors import BadInput
from ropewalk_core.kube.config import Token, find, from_kubeconfig, from_pod
from tests.kube.real import Authority


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    path = folder / "config"
    context = {"cluster": "c", "user": "u", "namespace": "place"}
    document = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/"} | cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_certificates_in_the_file_and_beside_it(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("me")
    (tmp_path / "me.crt").write_bytes(certificate)
    user = {"client-certificate": "me.crt", "client-key-data": base64.b64encode(key).decode()}
    data = {"certificate-authority-data": base64.b64encode(authority.pem).decode(), "tls-server-name": "kubernetes"}
    access = from_kubeconfig(kubeconfig(tmp_path, data, user))
    assert (access.server, access.namespace, access.server_name) == ("https://127.0.0.1:6443", "place", "kubernetes")
    assert access.context is not None and len(access.context.get_ca_certs()) == 1


def test_a_token_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    access = find(kubeconfig(tmp_path, {}, {"tokenFile": "token"}))
    assert access.token.current(0.0) == "secret"


@pytest.mark.parametrize(
    ("cluster", "user", "field"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "cluster.insecure-skip-tls-verify"),
        ({"proxy-url": "http://x"}, {}, "cluster.proxy-url"),
        ({"server": "ftp://x"}, {}, "cluster.server"),
        ({"certificate-authority-data": "%"}, {}, "certificate-authority"),
        ({"certificate-authority": "nowhere"}, {}, "certificate-authority"),
        ({}, {"exec": {"command": "aws"}}, "user.exec"),
        ({}, {"auth-provider": {"name": "gcp"}}, "user.auth-provider"),
        ({}, {"client-certificate-data": base64.b64encode(b"x").decode()}, "user.client-key"),
        (
            {},
            {"client-certificate-data": base64.b64encode(b"x").decode(), "client-key-data": "eA=="},
            "user.client-certificate",
        ),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as found:
        from_kubeconfig(kubeconfig(tmp_path, cluster, user))
    assert found.value.field == field


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "current-context: x"])
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(BadInput):
        from_kubeconfig(tmp_path / "config")


def test_a_pod_finds_its_server_and_its_token(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    (tmp_path / "token").write_text("one")
    (tmp_path / "namespace").write_text("ropewalk")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = from_pod(tmp_path, environment=lambda name: environment.get(name, ""))
    assert (access.server, access.namespace, access.token.current(0)) == ("https://[fd00::1]:443", "ropewalk", "one")
    with pytest.raises(BadInput) as found:
        from_pod(tmp_path, environment=lambda name: "")
    assert found.value.field == "cluster.kubeconfig"


def test_a_token_is_read_again_when_it_is_old_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    token = Token(file=file)
    assert token.current(0) == "one"
    file.write_text("two")
    assert [token.current(59), token.current(59, fresh=True)] == ["one", "two"]
    file.write_text("three")
    assert token.current(120) == "three"
    file.unlink()
    assert token.current(300) == "three"
    with pytest.raises(BadInput):
        Token(file=file).current(0)
