"""The admin API under ``/_sandbox/``: set the state, script faults, read reports."""

from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from dingrelay_sandbox.admin_answers import ROOT, answered
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.door import DOOR, LONGEST_SECONDS
from dingrelay_sandbox.events.delivery import DELIVERIES
from dingrelay_sandbox.faults import FaultSpec
from dingrelay_sandbox.limits import Latency
from dingrelay_sandbox.robots import Robot
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.state_reports import Reports
from dingrelay_sandbox.state_routes import report_routes
from dingrelay_sandbox.templates import Template

YEAR_SECONDS = 366 * 86_400


class Seed(BaseModel, extra="forbid"):
    """An organisation to make up: the same numbers make the same people."""

    users: Annotated[int, Field(ge=0, le=5_000_000)] = 2_000
    departments: Annotated[int, Field(ge=1, le=100_000)] = 60
    seed: int = 1


class TokenChoice(BaseModel, extra="forbid"):
    """Whose tokens; all without a key."""

    app_key: str | None = None


class Offset(BaseModel, extra="forbid"):
    """By how many seconds the sandbox's clock is ahead of the machine's."""

    offset: Annotated[float, Field(ge=-YEAR_SECONDS, le=YEAR_SECONDS)]


class Shut(BaseModel, extra="forbid"):
    """For how long connections are refused."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]


class Secret(BaseModel, extra="forbid"):
    """An app's new secret."""

    secret: str


class Decision(BaseModel, extra="forbid"):
    """What those decide who are asked in the step that an approval is in, or in all to come."""

    result: Literal["agree", "refuse"] = "agree"
    remark: str = ""
    to_end: bool = False


class Act(BaseModel, extra="forbid"):
    """What a person does to an approval in the client, without the limits of the API.

    Attributes:
        user: who; must have an open task to agree, refuse or redirect.
        to: who a task is handed to.
        remark: what is said; a comment needs it.
    """

    action: Literal["agree", "refuse", "redirect", "comment", "terminate"]
    user: Annotated[str, Field(min_length=1)]
    to: str = ""
    remark: str = ""

    @model_validator(mode="after")
    def _has_what_its_action_needs(self) -> Self:
        if self.action == "redirect" and not self.to:
            raise ValueError("to: somebody must be named")
        if self.action == "comment" and not self.remark:
            raise ValueError("remark: something must be said")
        return self


_object = TypeAdapter(dict[str, Any])


def admin_routes(state: SandboxState) -> list[web.RouteDef]:
    """All routes of the admin API."""
    admin = _Admin(state)
    return [
        web.post(f"{ROOT}/reset", answered(admin.reset)),
        web.post(f"{ROOT}/seed", answered(admin.seed)),
        web.post(f"{ROOT}/apps", answered(admin.put_app)),
        web.put(f"{ROOT}/apps/{{key}}/secret", answered(admin.change_secret)),
        web.post(f"{ROOT}/templates", answered(admin.put_template)),
        web.post(f"{ROOT}/robots", answered(admin.put_robot)),
        web.put(f"{ROOT}/groups/{{id}}", answered(admin.put_group)),
        web.get(f"{ROOT}/limits", answered(admin.limits)),
        web.post(f"{ROOT}/limits", answered(admin.change_limits)),
        web.post(f"{ROOT}/latency", answered(admin.change_latency)),
        web.get(f"{ROOT}/clock", answered(admin.clock)),
        web.put(f"{ROOT}/clock", answered(admin.set_clock)),
        web.post(f"{ROOT}/door/shut", answered(_shut_door)),
        web.post(f"{ROOT}/door/open", answered(_open_door)),
        web.get(f"{ROOT}/faults", answered(admin.faults)),
        web.get(f"{ROOT}/faults/{{id}}", answered(admin.fault)),
        web.post(f"{ROOT}/faults", answered(admin.add_fault)),
        web.delete(f"{ROOT}/faults", answered(admin.clear_faults)),
        web.delete(f"{ROOT}/faults/{{id}}", answered(admin.delete_fault)),
        web.get(f"{ROOT}/tokens", answered(admin.tokens)),
        web.post(f"{ROOT}/tokens/revoke", answered(admin.revoke_tokens)),
        web.post(f"{ROOT}/tokens/expire", answered(admin.expire_tokens)),
        web.put(f"{ROOT}/users/{{id}}", answered(admin.put_user)),
        web.delete(f"{ROOT}/users/{{id}}", answered(admin.delete_user)),
        web.put(f"{ROOT}/departments/{{id}}", answered(admin.put_department)),
        web.delete(f"{ROOT}/departments/{{id}}", answered(admin.delete_department)),
        web.post(f"{ROOT}/approvals/{{id}}/advance", answered(admin.advance)),
        web.post(f"{ROOT}/approvals/{{id}}/act", answered(admin.act)),
        web.delete(f"{ROOT}/approvals/{{id}}", answered(admin.delete_approval)),
        *report_routes(Reports(state)),
        web.route("*", f"{ROOT}/{{rest:.*}}", answered(_no_such_route)),
    ]


class _Admin:
    """The routes that change something."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    async def reset(self, request: web.Request) -> None:
        await request.app[DOOR].open()
        request.app[DELIVERIES].reset()
        self._state.reset()

    async def seed(self, request: web.Request) -> None:
        wanted = Seed.model_validate_json(await request.read())
        self._state.organisation.seed(
            users=wanted.users, departments=wanted.departments, seed=wanted.seed
        )

    async def put_app(self, request: web.Request) -> None:
        app = App.model_validate_json(await request.read())
        self._state.apps[app.app_key] = app

    async def change_secret(self, request: web.Request) -> None:
        wanted = Secret.model_validate_json(await request.read())
        app = self._state.app(request.match_info["key"])
        self._state.apps[app.app_key] = app.model_copy(update={"app_secret": wanted.secret})

    async def put_template(self, request: web.Request) -> None:
        template = Template.model_validate_json(await request.read())
        self._state.approvals.templates[template.process_code] = template

    async def put_robot(self, request: web.Request) -> None:
        robot = Robot.model_validate_json(await request.read())
        self._state.robots.robots[robot.token] = robot

    async def put_group(self, request: web.Request) -> None:
        self._state.robots.groups.add(request.match_info["id"])

    async def limits(self, request: web.Request) -> object:
        return self._state.limits.model_dump(mode="json")

    async def change_limits(self, request: web.Request) -> object:
        patch = _object.validate_json(await request.read())
        self._state.limiter.change(self._state.limits.changed(patch))
        return self._state.limits.model_dump(mode="json")

    async def change_latency(self, request: web.Request) -> None:
        self._state.latency = Latency.model_validate_json(await request.read())

    async def clock(self, request: web.Request) -> object:
        return {"now": self._state.clock(), "offset": self._state.clock.offset}

    async def set_clock(self, request: web.Request) -> object:
        self._state.set_clock(Offset.model_validate_json(await request.read()).offset)
        return await self.clock(request)

    async def faults(self, request: web.Request) -> object:
        return self._state.faults.report()

    async def fault(self, request: web.Request) -> object:
        return self._state.faults.find(int(request.match_info["id"]))

    async def add_fault(self, request: web.Request) -> object:
        spec = FaultSpec.model_validate_json(await request.read())
        return {"id": self._state.faults.add(spec)}

    async def clear_faults(self, request: web.Request) -> object:
        return {"ended": self._state.faults.delete()}

    async def delete_fault(self, request: web.Request) -> object:
        return {"ended": self._state.faults.delete(int(request.match_info["id"]))}

    async def tokens(self, _: web.Request) -> object:
        return self._state.tokens.values

    async def revoke_tokens(self, request: web.Request) -> object:
        choice = TokenChoice.model_validate_json(await request.read() or b"{}")
        return {"ended": self._state.tokens.revoke(choice.app_key)}

    async def expire_tokens(self, request: web.Request) -> object:
        choice = TokenChoice.model_validate_json(await request.read() or b"{}")
        return {"ended": self._state.tokens.expire(self._state.clock(), choice.app_key)}

    async def advance(self, request: web.Request) -> object:
        wanted = Decision.model_validate_json(await request.read() or b"{}")
        flow = self._state.approvals.find(request.match_info["id"]).flow
        if flow.status != "RUNNING":
            raise ValueError(f"the approval is {flow.status}")
        agree, at = wanted.result == "agree", self._state.clock()
        flow.advance(agree=agree, at=at, remark=wanted.remark)
        while wanted.to_end and flow.status == "RUNNING":
            flow.advance(agree=agree, at=at, remark=wanted.remark)
        return {"status": flow.status, "result": flow.result}

    async def act(self, request: web.Request) -> object:
        wanted = Act.model_validate_json(await request.read())
        flow, at = self._state.approvals.find(request.match_info["id"]).flow, self._state.clock()
        for person in filter(None, (wanted.user, wanted.to)):
            if person not in self._state.organisation.people:
                raise LookupError(f"user {person} does not exist")
        if flow.status != "RUNNING" and wanted.action != "comment":
            raise ValueError(f"the approval is {flow.status}")
        match wanted.action:
            case "agree" | "refuse":
                agree = wanted.action == "agree"
                flow.decide(flow.task_of(wanted.user), agree=agree, at=at, remark=wanted.remark)
            case "redirect":
                flow.redirect(flow.task_of(wanted.user), wanted.to, at=at, remark=wanted.remark)
            case "comment":
                flow.comment(wanted.user, wanted.remark, at=at)
            case "terminate":
                flow.terminate(wanted.user, at=at, remark=wanted.remark)
        return {"status": flow.status, "result": flow.result}

    async def delete_approval(self, request: web.Request) -> None:
        self._state.approvals.delete(request.match_info["id"], at=self._state.clock())

    async def put_user(self, request: web.Request) -> None:
        changes = _object.validate_json(await request.read() or b"{}")
        self._state.organisation.put_user(request.match_info["id"], changes)

    async def delete_user(self, request: web.Request) -> None:
        self._state.organisation.delete_user(request.match_info["id"])

    async def put_department(self, request: web.Request) -> None:
        changes = _object.validate_json(await request.read() or b"{}")
        self._state.organisation.put_department(int(request.match_info["id"]), changes)

    async def delete_department(self, request: web.Request) -> None:
        self._state.organisation.delete_department(int(request.match_info["id"]))


async def _shut_door(request: web.Request) -> None:
    wanted = Shut.model_validate_json(await request.read())
    await request.app[DOOR].shut_for(wanted.seconds)


async def _open_door(request: web.Request) -> None:
    await request.app[DOOR].open()


async def _no_such_route(request: web.Request) -> object:
    raise LookupError(f"no such route: {request.method} {request.path}")
