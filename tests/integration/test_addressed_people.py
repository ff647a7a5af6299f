"""Messages and campaigns to people named by mobile number, e-mail address or job number."""

import asyncio
import io
from typing import Any, cast

import pytest

from dingrelay_producers import JobStatus, State
from dingrelay_producers.client.campaign_documents import Malformed, MalformedRecipients, Plan
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend
from dingrelay_tasks.organisation import Member
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory
from support.campaigns import chunks
from support.command_line import Cli
from support.directories import organise
from support.workers import OneWorker

BY_MOBILE = "/topapi/v2/user/getbymobile"
SEND = "/topapi/message/corpconversation/asyncsend_v2"
PEOPLE = {
    "u1": {"mobile": "13800000001", "job_number": "0001", "email": "Ann@Example.com"},
    "u2": {"mobile": "13800000002", "job_number": "shared", "org_email": "bob@corp.example"},
    "u3": {"mobile": "51234567", "state_code": "852", "job_number": "shared"},
    "u4": {"mobile": "13800000004", "email": "left@example.com"},
}


async def fill(directory: AppDirectory) -> None:
    """All of `PEOPLE` are there, and u4 has left."""
    for number, (userid, fields) in enumerate(PEOPLE.items()):
        await directory.put_user(f"run{number}", Member(userid, fields), calls=1)
    await directory.drop_user("end", "u4", calls=1)


@pytest.fixture
async def worker(worker: OneWorker) -> OneWorker:
    await fill(worker.executor.resources.directory("default"))
    return worker


async def carried_out(worker: OneWorker, state: State = State.DONE, **to: Any) -> JobStatus:
    """A message to these is carried out at once, and ends so."""
    job = await worker.send(message(**to))
    assert await worker.run(job) == state
    return await worker.status(job)


def message(text: str = "hello", **to: Any) -> MessageSend:
    content = {"msgtype": "text", "text": {"content": text}}
    return MessageSend.parse({"to": to, "message": content})


def reached(sandbox: SandboxAdmin, *userids: str) -> list[int]:
    return [len(sandbox.inbox(userid)["delivered"]) for userid in userids]


async def test_people_are_found_and_named_once(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    status = await carried_out(
        worker,
        users=["u3"],
        mobiles=["+86 138-0000-0001", "+852-51234567"],
        emails=["ANN@example.com", "bob@corp.example"],
        job_numbers=["0001"],
    )
    result = status.result or {}
    assert (result["accepted"], result["unresolved"]) == (3, [])
    assert reached(sandbox, "u1", "u2", "u3") == [1, 1, 1]
    assert sandbox.calls(api=BY_MOBILE) == []


async def test_nobody_is_guessed(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.put_user("u5", mobile="13900000005")
    sandbox.put_user("u6", mobile="13900000006")
    app = {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"}
    sandbox.add_app(**app, departments=[], users=["u1", "u5"])
    status = await carried_out(
        worker,
        mobiles=["13900000005", "13900000006", "13911111111", "+1-4155550100"],
        emails=["left@example.com"],
        job_numbers=["shared"],
    )
    result = status.result or {}
    assert result["accepted"] == 1
    assert result["unresolved"] == [
        {"mobile": "+86-13900000006", "reason": "hidden"},
        {"mobile": "+86-13911111111", "reason": "unknown"},
        {"mobile": "+1-4155550100", "reason": "unknown"},
        {"email": "left@example.com", "reason": "unknown"},
        {"job_number": "shared", "reason": "ambiguous", "users": ["u2", "u3"]},
    ]
    assert reached(sandbox, "u5", "u6", "u2") == [1, 0, 0]
    assert len(sandbox.calls(api=BY_MOBILE)) == 3


async def test_a_message_without_people_is_dead(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    status = await carried_out(worker, State.DEAD, job_numbers=["shared", "none"])
    assert status.error.code == "nobody_found"
    assert [each["reason"] for each in status.result["unresolved"]] == ["ambiguous", "unknown"]
    assert sandbox.calls(api=SEND) == []


async def test_a_rerun_keeps_the_first_recipients(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", api=SEND, code="-1", count=1)
    job_id = await worker.send(message(mobiles=["13800000001"]))
    assert not (await worker.run(job_id)).ended
    directory = worker.executor.resources.directory("default")
    await directory.drop_user("later", "u1", calls=1)
    assert await worker.finish(job_id) == State.DONE
    assert reached(sandbox, "u1") == [1]


async def test_messages_to_addresses_share_a_call(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("throttle", api=SEND, code="43004", count=1)
    first = await worker.send(message(mobiles=["13800000001"]))
    second = await worker.send(message(emails=["bob@corp.example"]))
    third = await worker.send(message(users=["u3"]))
    assert not (await worker.run(first)).ended
    states = await asyncio.gather(*(worker.finish(each) for each in (first, second, third)))
    assert states == [State.DONE] * 3
    taken = [call for call in sandbox.calls(api=SEND) if call["verdict"] == "ok"]
    assert sum(call["recipients"] for call in taken) == 3
    assert reached(sandbox, "u1", "u2", "u3") == [1, 1, 1]


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ({"mobiles": ["+85251234567"]}, "to.mobiles.0: must be a mobile number such as"),
        ({"emails": ["stranger"]}, "to.emails.0: must be an e-mail address"),
        ({"job_numbers": [" 1"]}, "to.job_numbers.0: must be a job number"),
        ({"mobiles": ["13800000001"], "everyone": True}, "to.everyone"),
    ],
)
def test_wrong_addresses_are_refused_where_they_enter(to: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        message(**to)


@pytest.fixture
async def campaigns(database: Database) -> CampaignStore:
    await fill(await organise(database, {}))
    return CampaignStore(database)


def plan(**audience: Any) -> Plan:
    content = {"msgtype": "text", "text": {"content": "hello {name}"}}
    return cast("Plan", {"name": "party", "message": content, **audience})


def csv(*lines: str) -> io.BytesIO:
    return io.BytesIO("\n".join(lines).encode())


async def people(store: CampaignStore, campaign: str) -> set[str]:
    rows = await chunks(store.database, campaign)
    return {userid for chunk in rows for userid in chunk.users.split(",")}


async def test_a_file_names_people_by_one_kind_of_address(campaigns: CampaignStore) -> None:
    rows = csv("mobile,name", "138 0000 0001,Ann", "+852-51234567,Cho", "+86-13800000001,again")
    made = await campaigns.create(plan(recipients=rows))
    assert await people(campaigns, made.id) == {"u1", "u3"}
    assert made.duplicates == 1
    values = [{"email": "ann@example.com", "name": "Ann"}, {"job_number": "0001", "name": "Ann"}]
    made = await campaigns.create(plan(recipients=values))
    assert await people(campaigns, made.id) == {"u1"}


async def test_ambiguous_or_empty_rows_name_their_lines(campaigns: CampaignStore) -> None:
    rows = csv("job_number,name", "0001,Ann", "shared,Bob", "none,Eve", "1,Ann", ",Bob")
    with pytest.raises(MalformedRecipients) as caught:
        await campaigns.create(plan(recipients=rows))
    assert list(caught.value.first) == [
        Malformed(
            3,
            'the job number "shared" is that of several people: u2, u3',
            text="shared",
            users=("u2", "u3"),
            cause="several",
        ),
        Malformed(
            4,
            'no person in the directory has the job number "none"',
            text="none",
            cause="unknown",
        ),
        Malformed(
            5,
            'no person in the directory has the job number "1"; "0001" is there: '
            "Excel drops the zeros of a number, not of a text",
            text="1",
            cause="unknown",
        ),
        Malformed(6, "has no job number", text="Bob", cause="empty"),
    ]


async def test_exclusions_by_address_are_taken_out_or_refused(campaigns: CampaignStore) -> None:
    named = [{"userid": userid, "name": userid} for userid in ("u1", "u2", "u3")]
    without = csv("email", "ann@example.com")
    made = await campaigns.create(plan(recipients=named, without=without))
    assert await people(campaigns, made.id) == {"u2", "u3"}
    # A recipient that can't be found would be sent to.
    with pytest.raises(MalformedRecipients, match="exclusions"):
        await campaigns.create(plan(recipients=named, without=csv("email", "a@b.c")))


async def test_people_are_found_by_name_and_by_address(worker: OneWorker, cli: Cli) -> None:
    directory = worker.executor.resources.directory("default")
    named = {"name": "王小明", "mobile": "13900000007", "dept_id_list": [1]}
    await directory.put_user("w7", Member("u7", named), calls=1)
    await directory.put_user("w8", Member("u8", {"name": "王大_明"}), calls=1)
    await directory.drop_user("w9", "u8", calls=1)
    for user in ("u9", "u10"):
        await directory.put_user(user, Member(user, {"name": "李雷"}), calls=1)
    cli.variables["DINGRELAY_DATABASE_URL"] = worker.executor.resources.settings.database

    def found(*words: str) -> list[str]:
        return [each["userid"] for each in cli.json("person", "find", *words)["people"]]

    def look() -> None:
        assert found("明") == ["u7", "u8"]
        assert found("_") == ["u8"]
        assert found("139 0000 0007") == found("u7") == found("小明", "--app", "default") == ["u7"]
        assert sorted(found("shared")) == ["u2", "u3"]
        assert found("ANN@example.com") == ["u1"]
        assert found("stranger") == found("明", "--app", "hr") == []
        shown = cli("person", "find", "王").stdout
        assert "王小明" in shown
        assert "no such person" in cli("person", "find", "stranger").stderr
        assert cli.json("person", "show", "王小明")["user"] == "u7"
        assert cli.json("job", "list", "--to", "王小明") == []
        sent = cli.json("send", "--to", "u1，王小明、u2", "--text", "x")
        assert cli.json("job", "show", sent["id"])["recipients"].keys() == {"u1", "u2", "u7"}
        steps = ("--originator", "王小明", "--approver", "AND:u1，王小明")
        assert cli("approval", "create", "PROC-ANY", *steps, "--field", "a=b").exit_code == 0
        assert cli("send", "--to", "王大_明", "--text", "x").exit_code == 2  # has left
        campaign = ("campaign", "create", "n", "--dry-run", "--text", "x", "--to")
        assert cli.json(*campaign, "王小明,u1", "--except", "u1")["recipients"] == 1
        assert cli("person", "show", "诸葛亮").exit_code == 2
        assert cli.json("person", "export", "诸葛亮")["user"] == "诸葛亮"  # may be a userid
        for command in (
            ("person", "show", "李雷"),
            ("job", "list", "--to", "李雷"),
            ("send", "--text", "x", "--to", "李雷"),
            (*campaign, "李雷"),
            ("approval", "agree", "x", "--user", "李雷"),
        ):
            several = cli(*command)
            assert several.exit_code == 2
            assert {"u9", "u10"} < set(several.stderr.split())

    await asyncio.to_thread(look)
