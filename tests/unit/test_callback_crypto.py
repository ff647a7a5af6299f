"""The cipher of callbacks: the public vectors, and nothing revealed to strangers."""

import time
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.events.receiver import (
    CallbackCrypto,
    PushRefused,
    Receiver,
    Undecipherable,
)
from dingrelay_producers.settings import Settings
from dingrelay_workers.http.body_reader import parse_json
from dingrelay_workers.http.problems import Problem
from support.callbacks import AES_KEY, APP_KEY, TOKEN, DingTalk, strangers


def test_the_first_public_vector() -> None:
    owner = "suite4xxxxxxxxxxxxxxx"
    crypto = CallbackCrypto("123456", "4g5j64qlyl3zvetqxz5jiocdr586fn2zvjpa8zls3ij", ["x", owner])
    encrypt = (
        "1a3NBxmCFwkCJvfoQ7WhJHB+iX3qHPsc9JbaDznE1i03peOk1LaOQoRz3+nlyGNhwmwJ3vDMG+OzrHMeiZI7gTRW"
        "VdUBmfxjZ8Ej23JVYa9VrYeJ5as7XM/ZpulX8NEQis44w53h1qAgnC3PRzM7Zc/D6Ibr0rgUathB6zRHP8PYrfgn"
        "NOS9PhSBdHlegK+AGGanfwjXuQ9+0pZcy0w9lQ=="
    )
    assert crypto.is_signed(
        "5a65ceeef9aab2d149439f82dc191dd6c5cbe2c0",
        timestamp="1445827045067",
        nonce="nEXhMP4r",
        encrypt=encrypt,
    )
    message, its_owner = crypto.open(encrypt)
    assert message == (
        b'{"EventType":"check_create_suite_url","Random":"LPIdSnlF",'
        b'"TestSuiteKey":"suite4xxxxxxxxxxxxxxx"}'
    )
    assert its_owner == owner
    assert crypto.seal(message.decode(), owner, random="hU3bEfGZZewzhG5a") == encrypt


def test_the_second_public_vector() -> None:
    owner = "dingsnotzck6pm5veliw"
    crypto = CallbackCrypto("123456", "1234567890123456789012345678901234567890123", [owner])
    encrypt = (
        "YvkvaGe4hQxd3VxRmEty0dVlnCOAqwf56xwTRHDHoOURqhalbmBJQk5FNcRk42Gl5T0YQXZNwpwWSm1xAFJ5ZA=="
    )
    assert crypto.seal("success", owner, random="dICkEDLj0eb6yAbc") == encrypt
    assert crypto.open(encrypt)[0] == b"success"
    assert (
        crypto.signature("1614767836", "A7Co0cJLMzIDtMMI", encrypt)
        == "9a95a004dd16f5c307e849b994173f76aa26e5eb"
    )


@given(st.text(max_size=300), st.text(min_size=1, max_size=40))
def test_sealed_text_is_opened(message: str, owner: str) -> None:
    crypto = CallbackCrypto(TOKEN, AES_KEY, [owner])
    assert crypto.open(crypto.seal(message, owner)) == (message.encode(), owner)


@given(st.binary(max_size=200))
def test_any_wrong_text_is_refused_the_same_way(noise: bytes) -> None:
    crypto = CallbackCrypto(TOKEN, AES_KEY, [APP_KEY])
    with pytest.raises(Undecipherable) as refused:
        crypto.open(noise.decode("latin-1"))
    assert str(refused.value) == ""
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("key", ["", "x" * 42, "x" * 44, "-" * 43])
def test_a_wrong_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        CallbackCrypto(TOKEN, key, [])
    assert not key or key not in str(refused.value)


def receiver(corp_id: str = "") -> Receiver:
    app = {
        "app_key": APP_KEY,
        "corp_id": corp_id,
        "callback_token": TOKEN,
        "callback_aes_key": AES_KEY,
    }
    settings = Settings.load(env="sandbox", apps={"default": app})
    return Receiver(CurrentApps(settings))


@pytest.mark.parametrize("names", [("signature", "timestamp"), ("msg_signature", "timeStamp")])
@pytest.mark.parametrize("owner", [APP_KEY, "dingcorp"])
def test_a_push_is_opened_and_answered_with_its_own_key(names: tuple[str, str], owner: str) -> None:
    dingtalk = DingTalk(owner=owner, names=names)
    pushed = dingtalk.push(dingtalk.content("user_add_org", userId=["u1"], title="半个\ud83d"))
    push = receiver("dingcorp").open("default", parse_qsl(pushed.query), parse_json(pushed.body))
    assert push.event.event_type == "user_add_org"
    assert push.event.data == {"userId": ["u1"], "title": "半个?"}
    assert push.event.corp_id == "dingcorp"
    assert dingtalk.opened(push.success()) == "success"


def test_a_changed_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DINGTALK_APP_KEY", APP_KEY)
    files = {"TOKEN": tmp_path / "token", "AES_KEY": tmp_path / "key"}
    for name, text in {"TOKEN": "old", "AES_KEY": "o" * 43}.items():
        monkeypatch.setenv(f"DINGTALK_CALLBACK_{name}_FILE", str(files[name]))
        files[name].write_text(text)
    apps = CurrentApps(Settings.load(env="sandbox"))
    receiver = Receiver(apps)
    dingtalk = DingTalk()
    pushed = dingtalk.push({"EventType": "check_url"})
    with pytest.raises(PushRefused):
        receiver.open("default", parse_qsl(pushed.query), parse_json(pushed.body))
    files["TOKEN"].write_text(TOKEN)
    files["AES_KEY"].write_text(AES_KEY)
    apps.look()
    apps.look()
    push = receiver.open("default", parse_qsl(pushed.query), parse_json(pushed.body))
    assert dingtalk.opened(push.success()) == "success"


def test_a_check_of_the_url_is_no_event() -> None:
    dingtalk = DingTalk()
    pushed = dingtalk.push({"EventType": "check_url"})
    push = receiver().open("default", parse_qsl(pushed.query), parse_json(pushed.body))
    assert push.event is None
    assert dingtalk.opened(push.success()) == "success"


def test_a_time_may_be_in_seconds() -> None:
    crypto = CallbackCrypto(TOKEN, AES_KEY, [APP_KEY])
    encrypt, now = crypto.seal('{"EventType": "x"}', APP_KEY), str(int(time.time()))
    query = [("signature", crypto.signature(now, "n", encrypt)), ("timestamp", now), ("nonce", "n")]
    assert receiver().open("default", query, {"encrypt": encrypt}).event is not None


def test_strangers_are_refused_whatever_they_try() -> None:
    seen: dict[str, set[str]] = {}
    callbacks = receiver()
    for way, pushed in islice(strangers(seed=1), 1_500):
        try:
            body = parse_json(pushed.body)
        except Problem:
            continue
        with pytest.raises(PushRefused) as refused:
            callbacks.open("default", parse_qsl(pushed.query), body)
        seen.setdefault(way, set()).add(refused.value.reason)
    assert seen["padding"] == seen["length"] == seen["owner"] == {"encryption"}
    assert seen["flipped"] == seen["other_token"] == {"signature"}
    assert seen["old"] == {"timestamp"}
    assert seen["no_event"] == {"payload"}
