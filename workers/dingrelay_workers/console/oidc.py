"""Signing in through an OpenID provider: authorization code with PKCE; the ID token is checked by joserfc."""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
from aiohttp import ClientSession, ClientTimeout, encode_basic_auth, hdrs
from joserfc import jwt
from joserfc.errors import InvalidClaimError, JoseError
from joserfc.jwk import KeySet
from sqlalchemy import ColumnElement, false, or_

from dingrelay_producers.language import tr
from dingrelay_producers.settings.sections import OidcSettings
from dingrelay_tasks import addresses
from dingrelay_workers.console.ways import Arrival, NotSignedIn, SignInWay
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.service import DirectoryService

ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Signature algorithms of ID tokens: by the provider's public keys only."""
LEEWAY = 60
"""Seconds by which its clock may differ."""
SECONDS = 10.0
"""Timeout of each request to the provider."""
EMAIL = "email"


class OidcWay(SignInWay):
    """Through an OpenID provider. What it answers is asked for at each sign-in: those are rare.

    Args:
        secret: of the client.
    """

    name = "oidc"

    def __init__(
        self,
        app: str,
        console_url: str,
        directory: DirectoryService,
        *,
        settings: OidcSettings,
        secret: str,
    ) -> None:
        super().__init__(app, console_url, directory)
        self._settings = settings
        self._secret = secret

    @property
    def secret(self) -> str:
        """The client's."""
        return self._secret

    async def url(self, state: str) -> str:
        """The provider's page."""
        async with _session() as session:
            provider = await self._provider(session)
        challenge = hashlib.sha256(self.derived("verifier", state).encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.back,
            "scope": "openid profile email",
            "state": state,
            "nonce": self.derived("nonce", state),
            "code_challenge": urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        page = provider["authorization_endpoint"]
        return f"{page}{'&' if '?' in page else '?'}{urlencode(query)}"

    async def arrival(self, code: str, state: str) -> Arrival:
        """Identify the person by a claim of the ID token."""
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.back,
            "code_verifier": self.derived("verifier", state),
        }
        # Both are encoded as in a form first (RFC 6749, 2.3.1).
        login = encode_basic_auth(quote_plus(self._settings.client_id), quote_plus(self._secret))
        async with _session() as session:
            provider = await self._provider(session)
            bought = await _ask(
                session,
                "POST",
                provider["token_endpoint"],
                data=body,
                headers={hdrs.AUTHORIZATION: login},
            )
            keys = await _ask(session, "GET", provider["jwks_uri"])
        claims = self._checked(str(bought.get("id_token", "")), keys, state)
        value = str(claims.get(self._settings.claim) or "")
        if self._settings.claim == EMAIL and claims.get("email_verified") is not True:
            value = ""
        user = await self.directory.userid_of(self.app, self._who(value)) if value else None
        return user, str(claims.get("name") or value)

    async def _provider(self, session: ClientSession) -> dict[str, str]:
        """The provider's published configuration."""
        issuer = self._settings.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        configuration = await _ask(session, "GET", url)
        places = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        scheme = issuer.partition(":")[0]
        fits = all(str(configuration.get(name, "")).startswith(f"{scheme}://") for name in places)
        if configuration.get("issuer") != issuer or not fits:
            raise NotSignedIn(tr("The sign-in service is not set up right; the log has more."))
        return {name: str(configuration[name]) for name in places}

    def _checked(self, id_token: str, keys: Any, state: str) -> dict[str, Any]:
        """The claims of a token that is for us, and for this state."""
        expected = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": self.derived("nonce", state)},
        )
        try:
            token = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)
            expected.validate(token.claims)
            self._check_party(token.claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            problem = tr("The sign-in service does not say who you are. Try again.")
            raise NotSignedIn(problem) from error
        claims: dict[str, Any] = token.claims
        return claims

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        """Refuse a token that was made for another client, though it is good for this one as well."""
        party, audience = claims.get("azp"), claims["aud"]
        is_shared = isinstance(audience, list) and audience != [self._settings.client_id]
        if party != self._settings.client_id and (party is not None or is_shared):
            raise InvalidClaimError("azp")

    def _who(self, value: str) -> ColumnElement[bool]:
        """The person with this value of the claim: of an e-mail address, or a userid."""
        if self._settings.claim != EMAIL:
            return UserRow.userid == value
        try:
            address = addresses.email(value)
        except ValueError:
            return false()
        return or_(UserRow.email == address, UserRow.org_email == address)


def _session() -> ClientSession:
    return ClientSession(
        timeout=ClientTimeout(total=SECONDS), trust_env=True, cookie_jar=aiohttp.DummyCookieJar()
    )


async def _ask(session: ClientSession, method: str, url: str, **more: Any) -> dict[str, Any]:
    """An answer of the provider that is a JSON object."""
    try:
        async with session.request(method, url, allow_redirects=False, **more) as answer:
            content = await answer.read()
            reason = f"status {answer.status}"
            document: Any = json.loads(content) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        document, reason = None, type(error).__name__
    if isinstance(document, dict):
        return document  # pyright: ignore[reportUnknownVariableType]
    problem = tr("The sign-in service does not answer as it should ({reason}).", reason=reason)
    raise NotSignedIn(problem)
