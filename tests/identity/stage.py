"""A whole platform in a temporary home, without processes, and a browser-like client for it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI

from ropewalk_core import settings as settings_module
from ropewalk_core.settings import Settings
from ropewalk_core.testing import SimulatedClock
from ropewalk_hub import addresses
from ropewalk_hub.app import create_app
from ropewalk_hub.issuer.grants import Client
from ropewalk_hub.issuer.passwords import Passwords
from ropewalk_hub.platform import Platform, build

PASSWORD = "a rope of three strands"
REDIRECT = "http://localhost:8000/hub/oauth_callback"
ORIGIN = "http://localhost:8000"


def settings_of(home: Path, **chosen: Any) -> Settings:
    return settings_module.load(home, environ={}, **chosen)


@dataclass
class Stage:
    platform: Platform
    clock: SimulatedClock
    app: FastAPI
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def issuer(self) -> Any:
        return self.platform.issuer

    def browser(self, *, origin: str | None = ORIGIN, **headers: str) -> httpx.AsyncClient:
        """A client with a cookie jar of its own that writes Origin as browsers do."""
        given = ({"origin": origin} if origin else {}) | {"accept": "text/html"} | headers
        made = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=ORIGIN, headers=given)
        self.clients.append(made)
        return made

    def machine(self) -> httpx.AsyncClient:
        return self.browser(origin=None, accept="application/json")

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        await self.platform.close()

    def add(self, name: str, *, administrator: bool = False, active: bool = True) -> None:
        self.issuer.accounts.create(name, PASSWORD, administrator=administrator, also=[])
        if active and not administrator:
            self.issuer.accounts.set_state(name, "active")

    async def signed_in(self, name: str = "alice") -> httpx.AsyncClient:
        browser = self.browser()
        answer = await browser.post("/sign-in", data={"account": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return browser


def make(home: Path, **chosen: Any) -> Stage:
    clock = SimulatedClock()
    settings = settings_of(home, **chosen)
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    platform = build(settings, addresses.pick(), clock=clock, passwords=cheap)
    platform.issuer.clients["app"] = Client("app", "the-app-secret", redirects=(REDIRECT,), after_sign_out=(ORIGIN,))
    return Stage(platform, clock, create_app(platform))


@dataclass
class Flow:
    """A client of the issuer that does everything right, so that tests can do one thing wrong."""

    stage: Stage
    browser: httpx.AsyncClient
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    async def authorize(self, **changes: str | None) -> httpx.Response:
        asked = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": REDIRECT,
            "scope": "openid profile offline_access",
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        } | changes
        kept = {key: value for key, value in asked.items() if value is not None}
        return await self.browser.get("/oidc/authorize", params=kept)

    async def code(self, **changes: str | None) -> str:
        answer = await self.authorize(**changes)
        assert answer.status_code == 303, answer.text
        return query_of(answer)["code"]

    async def exchange(self, code: str, **changes: str | None) -> httpx.Response:
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": self.verifier,
        } | changes
        return await self.token({key: value for key, value in body.items() if value is not None})

    async def token(self, body: dict[str, str], auth: tuple[str, str] = ("app", "the-app-secret")) -> httpx.Response:
        return await self.stage.machine().post("/oidc/token", data=body, auth=auth)

    async def tokens(self) -> dict[str, Any]:
        answer = await self.exchange(await self.code())
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def refresh(self, token: str) -> httpx.Response:
        return await self.token({"grant_type": "refresh_token", "refresh_token": token})

    async def userinfo(self, access: str) -> httpx.Response:
        return await self.stage.machine().get("/oidc/userinfo", headers={"authorization": f"Bearer {access}"})


def query_of(answer: httpx.Response) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
