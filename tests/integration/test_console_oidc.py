"""Signing in to the console through an OpenID provider, which these tests play."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dingrelay_producers.settings import Settings
from dingrelay_workers.directory.models import UserRow
from support import rows
from support.consoles import Browser
from support.sandboxes import APP

jwt = pytest.importorskip("joserfc.jwt")
jwk = pytest.importorskip("joserfc.jwk")

CONSOLE = "http://console.test"
SECRET = "s" * 32
KEYS = [jwk.RSAKey.generate_key(2048, {"kid": name}) for name in ("ours", "another")]


@dataclass
class Provider:
    """An OpenID provider, whose ID tokens a test spoils."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    signer: int = 0
    algorithm: str = "RS256"
    broken: str = ""
    asked: dict[str, str] = field(default_factory=dict)

    async def discovery(self, _: web.Request) -> web.Response:
        if self.broken == "discovery":
            return web.Response(text="<html>")
        found = {"issuer": "https://evil.example" if self.broken == "issuer" else self.issuer}
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            found[name] = f"{self.issuer}/{name}"
        return web.json_response(found)

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        login = base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))
        challenge = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        proof = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        right = login == f"relay:{SECRET}".encode() and form["code"] == "good"
        if not right or proof != self.asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {
            "iss": self.issuer,
            "aud": "relay",
            "sub": "1",
            "exp": int(time.time()) + 60,
            "nonce": self.asked["nonce"],
            "email": "Zhang@example.com",
            "email_verified": True,
            **self.claims,
        }
        header = {"alg": self.algorithm, "kid": "ours"}
        key = jwk.OctKey.import_key(SECRET) if self.algorithm == "HS256" else KEYS[self.signer]
        return web.json_response({"id_token": jwt.encode(header, claims, key)})

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response(jwk.KeySet([KEYS[0]]).as_dict(private=False))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", found.discovery)
    app.router.add_post("/token_endpoint", found.token)
    app.router.add_get("/jwks_uri", found.keys)
    async with TestServer(app) as server:
        found.issuer = str(server.make_url("")).rstrip("/")
        yield found


@pytest.fixture
def settings(provider: Provider, valkey_url: str, sqlite_url: str) -> Settings:
    oidc = {"issuer": provider.issuer, "client_id": "relay"}
    places = {"redis_url": valkey_url, "database_url": sqlite_url, "console_url": CONSOLE}
    return Settings.load(env="test", apps={"default": APP}, oidc=oidc, oidc_secret=SECRET, **places)


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    """A console with one person, who has a role."""
    row = {"userid": "zhang", "name": "张三", "email": "zhang@example.com"}
    await rows.put(browser.database, UserRow, row)
    await browser.give("zhang")
    return browser


async def come_back(browser: Browser, provider: Provider, code: str = "good") -> tuple[int, str]:
    """Go to the provider, agree there, and come back."""
    start = f"{browser.url}/sign-in/oidc"
    async with browser.session.get(start, allow_redirects=False) as answer:
        there = urlsplit(answer.headers.get("Location", ""))
    provider.asked = {name: values[0] for name, values in parse_qs(there.query).items()}
    state = provider.asked.get("state", "")
    return await browser.get(f"/sign-in/oidc/done?code={code}&state={state}")


async def test_a_person_is_found_by_the_address_that_the_provider_vouches_for(
    browser: Browser, provider: Provider
) -> None:
    text = await browser.text("/sign-in")
    assert ("/sign-in/oidc" in text, "/sign-in/dingtalk" in text) == (True, True)
    for claims in ({"aud": ["relay", "another"], "azp": "relay"}, {"aud": ["relay"]}, {}):
        browser.session.cookie_jar.clear()
        provider.claims = claims
        assert (await come_back(browser, provider))[0] == 303
    assert provider.asked["redirect_uri"] == f"{CONSOLE}/sign-in/oidc/done"
    assert await browser.status("/jobs") == 200


SPOILT: list[dict[str, Any]] = [
    {"claims": {"iss": "https://evil.example"}},
    {"claims": {"aud": "another"}},
    {"claims": {"exp": int(time.time()) - 3_600}},
    {"claims": {"nonce": "of another sign-in"}},
    {"claims": {"nonce": None}},
    {"claims": {"email": "other@example.com"}},
    {"claims": {"email": "zhang@example.com' or '1'='1"}},
    {"claims": {"email": None}},
    *({"claims": {"email_verified": value}} for value in (False, None, "true", "false", 1)),
    *({"claims": {"azp": value}} for value in ("another", "", ["relay"])),
    {"claims": {"aud": ["relay", "another"]}},
    {"claims": {"aud": ["relay", "another"], "azp": "another"}},
    {"signer": 1},
    {"algorithm": "HS256"},
    {"broken": "discovery"},
    {"broken": "issuer"},
]


async def test_a_token_not_for_this_person_or_of_another_provider_is_refused(
    browser: Browser, provider: Provider
) -> None:
    sound = dict(vars(provider))
    for spoilt in SPOILT:
        vars(provider).update(sound | spoilt)
        status, text = await come_back(browser, provider)
        assert (status in {403, 502}, text.count("<h1>")) == (True, 1), spoilt
        assert await browser.status("/jobs") == 303, spoilt


async def test_a_code_that_the_provider_refuses_is_said_on_a_page(
    browser: Browser, provider: Provider
) -> None:
    assert (await come_back(browser, provider, code="bad"))[0] == 502
