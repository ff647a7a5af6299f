import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_workers.limiter.rules import Rule, Rules, parse

RULES = Rules.from_settings({}, "office")


def limits(rules: tuple[Rule, ...]) -> list[tuple[str, str, str, int | None, float]]:
    return [(rule.scope, rule.api, rule.unit, rule.limit, rule.window) for rule in rules]


@pytest.mark.parametrize(
    ("text", "limit", "window"),
    [
        ("20/1s", 20, 1),
        ("20/s", 20, 1),
        ("5000/60s", 5000, 60),
        ("5000/1m", 5000, 60),
        ("10000/20s", 10000, 20),
        ("1/1h", 1, 3600),
        ("3/0.5s", 3, 0.5),
    ],
)
def test_a_limit_is_a_count_and_a_window(text: str, limit: int, window: float) -> None:
    assert parse("*", "calls", text) == (limit, window)


@pytest.mark.parametrize(
    "text", ["20", "20/", "/1s", "0/1s", "-1/1s", "20/1d", "20/0s", "2e3/1s", "20/1s\n", "٢٠/1s"]
)
def test_a_bad_limit_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r'rules\."message\.send"\.recipients'):
        Rules.from_settings({"message.send": {"recipients": text}}, "office")


def test_an_unknown_unit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r'rules\."\*"\.bytes'):
        Rules.from_settings({"*": {"bytes": "20/1s"}}, "office")


@given(st.text(max_size=12))
def test_any_text_is_a_limit_or_a_value_error(text: str) -> None:
    try:
        found = parse("*", "calls", text)
    except ValueError:
        return
    assert found is None or (found[0] >= 1 and found[1] > 0)


def test_every_api_has_its_calls_and_the_address_it_leaves_from() -> None:
    assert limits(RULES.of("default", "contacts.members")) == [
        ("app:default", "contacts.members", "calls", 20, 1),
        ("egress:office", "*", "calls", 10_000, 20),
    ]


def test_work_notifications_also_count_recipients() -> None:
    assert limits(RULES.of("hr", "message.send")) == [
        ("app:hr", "message.send", "calls", 20, 1),
        ("app:hr", "message.send", "recipients", 5000, 60),
        ("egress:office", "*", "calls", 10_000, 20),
    ]


def test_a_robot_has_its_own_minute() -> None:
    assert limits(RULES.of("default", "robot.webhook"))[0][3:] == (20, 60)


def test_the_token_api_has_room_for_penalties_but_no_rule_of_its_own() -> None:
    calls, egress = RULES.of("default", "token")
    assert (calls.limit, calls.rate, calls.top) == (None, 0, 0)
    assert egress.scope == "egress:office"


def test_an_override_for_every_api_leaves_the_special_ones() -> None:
    rules = Rules.from_settings({"*": {"calls": "60/1s"}}, "office")
    assert limits(rules.of("default", "approval.create"))[0][3:] == (60, 1)
    assert limits(rules.of("default", "robot.webhook"))[0][3:] == (20, 60)
    assert rules.of("default", "token")[0].limit is None


def test_an_override_for_one_api_wins_and_an_empty_one_lifts() -> None:
    rules = Rules.from_settings(
        {
            "*": {"calls": "60/1s"},
            "message.send": {"calls": "", "recipients": "50/1s"},
            "egress": {"calls": "100/1m"},
        },
        "office",
    )
    calls, recipients, egress = rules.of("default", "message.send")
    assert calls.limit is None
    assert (recipients.limit, recipients.window) == (50, 1)
    assert (egress.limit, egress.window) == (100, 60)
    lifted = Rules.from_settings({"message.send": {"recipients": ""}}, "office")
    assert [rule.unit for rule in lifted.of("default", "message.send")] == ["calls", "calls"]


def test_a_rule_is_found_by_the_name_of_its_bucket() -> None:
    for rule in RULES.of("default", "message.send"):
        assert RULES.find(rule.scope, rule.api, rule.unit) == rule
    assert RULES.find("egress:elsewhere", "*", "calls") is None
    assert RULES.find("app:default", "message.send", "bytes") is None


@given(
    limit=st.integers(1, 100_000),
    window=st.sampled_from([0.5, 1.0, 20.0, 60.0]),
    unit=st.sampled_from(["calls", "recipients"]),
    scope=st.sampled_from(["app:a", "egress:e"]),
)
def test_burst_and_rate_fit_the_window(limit: int, window: float, unit: str, scope: str) -> None:
    rule = Rule(scope, "api", "calls" if unit == "calls" else "recipients", limit, window)
    assert 0 < rule.rate <= rule.top
    assert rule.top == pytest.approx(limit / window) or rule.top == rule.rate
    if limit > rule.burst:
        assert rule.burst + rule.rate * window <= limit + 1e-9


def test_only_an_apps_calls_may_try_for_more() -> None:
    calls, recipients, egress = RULES.of("default", "message.send")
    assert (calls.rate, calls.top) == (19, 20)
    assert recipients.rate == recipients.top == pytest.approx(4900 / 60.5)
    assert egress.rate == egress.top == pytest.approx(9999 / 20.5)


@pytest.mark.parametrize(
    ("api", "near"),
    [("message.sent", "message.send"), ("mesage.send", "message.send"), ("tokens", "token")],
)
def test_an_unknown_api_suggests_the_nearest(api: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf'rules\."{api}": no such API; did you mean "{near}"'):
        Rules.from_settings({api: {"calls": "1/1s"}}, "office")


def test_a_rule_for_an_api_like_none_is_refused_with_all_names() -> None:
    with pytest.raises(ValueError, match=r"approval\.create, .*robot\.webhook"):
        Rules.from_settings({"zzz": {"calls": "1/1s"}}, "office")


def test_a_path_may_have_a_rule_of_its_own() -> None:
    rules = Rules.from_settings(
        {"/v1.0/todo/users/*/tasks": {"calls": "5/1s"}, "/v1.0/todo/users/me/tasks": {"calls": ""}},
        "office",
    )
    assert rules.named_for("/v1.0/todo/users/u1/tasks") == "/v1.0/todo/users/*/tasks"
    assert rules.named_for("/v1.0/todo/users/me/tasks") == "/v1.0/todo/users/me/tasks"
    assert rules.named_for("/v1.0/todo/users/a/b/tasks") == ""
    assert rules.named_for("/v1.0/todo/users/u1/tasks/x") == ""
    assert limits(rules.of("hr", "/v1.0/todo/users/*/tasks"))[0][3:] == (5, 1)


@pytest.mark.parametrize("path", ["/", "//x", "/a/", "/a b", "/a?b", "/a/**"])
def test_wrong_paths_have_no_rule(path: str) -> None:
    with pytest.raises(ValueError, match="no such API"):
        Rules.from_settings({path: {"calls": "5/1s"}}, "office")
