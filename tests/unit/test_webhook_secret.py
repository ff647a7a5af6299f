"""Secrets and signatures, as the public library and the spec's own vector know them."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.settings import SANDBOX_WEBHOOK_KEY
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import secret
from dingrelay_workers.webhooks.secret import Generation

KEY, OTHER = "k" * 32, "o" * 40
FIRST = Generation(number=1, made_from=secret.fingerprint(KEY))
NOW = datetime.now(UTC)


def test_the_vector_of_the_spec() -> None:
    known = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = secret.signature(
        known, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["ascii", "你好", "half \ud83d", '\0"\\/\u2028'])
def test_signatures_verify_with_the_public_library(text: str) -> None:
    notice = Notice(type="job.done", app="default", at=NOW, data={"text": text})
    content = secret.body(notice)
    made = secret.derive([KEY], "drw_a", FIRST)
    headers = dict(secret.headers(notice, content, datetime.now(UTC), [b"x" * 32, made]))
    verified = Webhook(secret.spelled(made)).verify(content, headers)
    assert verified["data"] == {"app": "default", "text": text}


def test_each_endpoint_and_each_rotation_has_a_secret_of_its_own() -> None:
    second = Generation(number=2, made_from=secret.fingerprint(KEY))
    made = {
        secret.derive([KEY], endpoint, generation)
        for endpoint in ("drw_a", "drw_b")
        for generation in (FIRST, second)
    }
    assert len(made) == 4
    assert {len(each) for each in made} == {32}


def test_a_secret_stays_while_the_key_behind_it_is_replaced() -> None:
    made = secret.derive([KEY], "drw_a", FIRST)
    assert secret.derive([OTHER, KEY], "drw_a", FIRST) == made
    with pytest.raises(SettingsError, match="DINGRELAY_WEBHOOK_KEY"):
        secret.derive([OTHER], "drw_a", FIRST)


def test_in_production_a_key_is_required_and_no_error_shows_one() -> None:
    production = {"env": "production", "redis_url": "redis://redis:6379/0"}
    with pytest.raises(SettingsError, match="DINGRELAY_WEBHOOK_KEY: required"):
        _ = Settings.load(**production).webhook_keys
    with pytest.raises(SettingsError, match="32 characters") as refused:
        Settings.load(**production, webhook_key="short-and-secret")
    assert "short-and-secret" not in str(refused.value)
    settings = Settings.load(**production, webhook_key=f"{OTHER}, {KEY}")
    assert settings.webhook_keys == (OTHER, KEY)
    assert OTHER not in repr(settings)
    assert Settings.load(env="sandbox").webhook_keys == (SANDBOX_WEBHOOK_KEY,)
