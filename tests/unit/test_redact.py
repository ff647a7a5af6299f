import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.settings import AppSettings, Settings, SettingsError
from dingrelay_workers.calls.tokens import CREDENTIALS_HINT
from dingrelay_workers.dingtalk.errors import LIMIT, redact

SECRET = "fw8ef8we8f76e6f7s8dxxxx"
NAMES = [
    "access_token", "accessToken", "appkey", "appKey", "app_key", "appsecret", "appSecret",
    "app_secret", "client_id", "clientId", "client_secret", "clientSecret",
    "x-acs-dingtalk-access-token",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "https://oapi.dingtalk.com/gettoken?{name}={secret}&x=1",
        "https://oapi.dingtalk.com/gettoken?x=1&{name}={secret}",
        "{name}%3D{secret}",
        '{{"{name}": "{secret}", "expires_in": 7200}}',
        '{{"{name}":"{secret}"}}',
        '"{{\\"{name}\\":\\"{secret}\\"}}"',
        "{{'{name}': '{secret}'}}",
        "{{'{name}': b'{secret}'}}",
        "{name}: {secret}",
        "{name}='{secret}'",
    ],
)
def test_the_value_goes_and_the_name_stays(name: str, text: str) -> None:
    redacted = redact(text.format(name=name, secret=SECRET))
    assert SECRET not in redacted
    assert name in redacted
    assert "***" in redacted


def test_the_rest_of_a_url_stays() -> None:
    url = f"https://oapi.dingtalk.com/topapi/v2/user/get?access_token={SECRET}&lang=zh_CN"
    assert redact(url) == (
        "https://oapi.dingtalk.com/topapi/v2/user/get?access_token=***&lang=zh_CN"
    )


def test_an_authorization_header_goes() -> None:
    assert redact(f"Authorization: Bearer {SECRET}") == "Authorization: Bearer ***"


@pytest.mark.parametrize(
    "message",
    [
        "ding talk error[subcode=40014,submsg=不合法的access_token]",
        "access_token is blank",
        "无效的clientId或者clientSecret",
        "缺少参数：x-acs-dingtalk-access-token",
        "缺少参数 corpid or appkey",
    ],
)
def test_a_message_that_only_mentions_a_name_stays(message: str) -> None:
    assert redact(message) == message


def test_long_texts_are_cut_unless_asked_not_to_be() -> None:
    assert redact("x" * LIMIT) == "x" * LIMIT
    assert redact("x" * (LIMIT + 1)) == "x" * (LIMIT - 1) + "…"
    assert redact("x" * 1_000, None) == "x" * 1_000


@given(st.text(st.characters(exclude_categories=[])))
def test_redacted_text_is_valid_json_and_utf8(text: str) -> None:
    assert len(redact(text)) <= LIMIT
    assert json.loads(json.dumps(redact(text)).encode()) == redact(text)
    redact(text).encode()


@given(st.text(), st.sampled_from(NAMES), st.text(alphabet="0123456789abcdefXYZ", min_size=8))
def test_wherever_it_stands(around: str, name: str, secret: str) -> None:
    assert secret not in redact(f"?{name}={secret}&", None)
    assert f"={secret}" not in redact(f"{around}?{name}={secret}&{around}", None)


@pytest.mark.parametrize("name", ["default", "hr"])
def test_the_name_of_a_secret_that_is_missing_is_not_hidden(name: str) -> None:
    settings = Settings(env="sandbox", apps={name: AppSettings.model_validate({"app_key": "k"})})
    with pytest.raises(SettingsError) as missing:
        settings.app(name)
    assert redact(str(missing.value)) == str(missing.value)
    assert "DINGTALK_APP_SECRET" in str(missing.value)
    assert redact(CREDENTIALS_HINT) == CREDENTIALS_HINT
