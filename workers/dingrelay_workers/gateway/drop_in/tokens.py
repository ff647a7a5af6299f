"""The door's own access tokens: an API key's id and secret for a token of two hours (API §1).

As with DingTalk, asking again within that time gives the same token, renewed. Redis holds its digest
and a random part of it, which gives no token without the key's secret.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal
from dingrelay_workers.gateway.drop_in.incoming import Incoming
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.routes import GatewayContext
from dingrelay_workers.keys.service import KeyService

LIVES_SECONDS = keys.DOOR_TOKEN_TTL_MS // 1000


async def gettoken(context: GatewayContext, call: Incoming) -> tuple[ApiKey, DoorAnswer]:
    """``GET /gettoken``: key and secret in the query, by either of the two pairs of names that DingTalk takes."""
    pairs = [("appkey", "appsecret"), ("corpid", "corpsecret")]
    credentials = [
        (call.query[key], call.query.get(secret)) for key, secret in pairs if call.query.get(key)
    ]
    key_id, secret = credentials[0] if credentials else ("", None)
    if not secret:
        raise Refusal(answers.missing("corpid or appkey"))
    key, token = await _exchanged(context, key_id, secret)
    content = {
        "errcode": 0,
        "access_token": token,
        "errmsg": "ok",
        "expires_in": LIVES_SECONDS,
    }
    return key, DoorAnswer(content)


async def access_token(context: GatewayContext, call: Incoming) -> tuple[ApiKey, DoorAnswer]:
    """``POST /v1.0/oauth2/accessToken``."""
    key, token = await _exchanged(context, _text(call, "appKey"), _text(call, "appSecret"))
    return key, DoorAnswer({"accessToken": token, "expireIn": LIVES_SECONDS})


async def corporation_token(context: GatewayContext, call: Incoming) -> tuple[ApiKey, DoorAnswer]:
    """``POST /v1.0/oauth2/{corpId}/token``."""
    if _text(call, "grant_type") != "client_credentials":
        raise Refusal(answers.invalid("grant_type"))
    key, token = await _exchanged(context, _text(call, "client_id"), _text(call, "client_secret"))
    return key, DoorAnswer({"access_token": token, "expires_in": LIVES_SECONDS})


async def caller(context: GatewayContext, call: Incoming) -> ApiKey:
    """The key for whose token a call was made; one request of it is counted.

    Raises:
        Refusal: the call has no token, or none that is good; or its key is over its rate.
        ServiceUnavailable: Redis or what keeps the keys is away.
    """
    if not call.token:
        raise Refusal(answers.TOKEN_MISSING)
    async with asking():
        holder: bytes | str | None = await context.redis.get(keys.door_token(_digest(call.token)))
    key_id, _, secret_digest = _decoded(holder or b"").partition(" ")
    key = await context.service(KeyService).find(key_id, secret_digest) if holder else None
    if key is None:
        raise Refusal(answers.TOKEN_INVALID)
    await count(context, key)
    return key


async def count(context: GatewayContext, key: ApiKey) -> None:
    """Count one request of a key.

    Raises:
        Refusal: it is over its rate.
    """
    if await context.throttle(key) is not None:
        raise Refusal(answers.THROTTLED)


async def _exchanged(context: GatewayContext, key_id: str, secret: str) -> tuple[ApiKey, str]:
    key = await context.service(KeyService).verify_pair(key_id, secret)
    if key is None:
        raise Refusal(answers.CREDENTIALS)
    await count(context, key)
    nonce, lives = keys.door_nonce(key.id), keys.DOOR_TOKEN_TTL_MS
    async with asking():
        pipe = context.redis.pipeline(transaction=True)
        pipe.set(nonce, secrets.token_hex(16), nx=True, px=lives)
        pipe.get(nonce)
        pipe.pexpire(nonce, lives)
        _, random, _ = await pipe.execute()
        # The whole text of the key and what stands behind its dot are the same secret.
        plain = secret.removeprefix(f"{key.id}.")
        token = _token(plain, _decoded(random))
        # With its secret, so that the token is no good for longer than that is.
        holder = f"{key.id} {context.service(KeyService).digest(key.id, plain)}"
        await context.redis.set(keys.door_token(_digest(token)), holder, px=lives)
    return key, token


def _token(secret: str, random: str) -> str:
    mac = hmac.new(secret.encode(), f"dingrelay door {random}".encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(mac).decode().rstrip("=")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _decoded(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def _text(call: Incoming, name: str) -> str:
    value = call.fields.get(name)
    if value is None or value == "":
        raise Refusal(answers.missing(name))
    if not isinstance(value, str):
        raise Refusal(answers.invalid(name))
    return value
