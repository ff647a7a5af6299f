"""A kind of job that nothing but this file knows: contract, body, limit, and the sandbox's answer.

As a program it is the command line ``dingrelay`` with that kind. In the tests' own process it is not
imported: there would be one kind more for all other tests.
"""

from functools import partial

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Deliverable, Json, Part, UserId
from dingrelay_tasks.kinds import kind

PATH = "/v1.0/toy/rings"


class RungPeople(Part):
    """The people who are rung."""

    users: list[UserId]


class ToyRing(Deliverable):
    """Ring some people."""

    to: RungPeople
    text: str


class ToyRingResult(Part):
    """DingTalk's id of the ring."""

    ring: str


@kind(
    "toy-ring",
    ToyRing,
    result=ToyRingResult,
    scope="toys:write",
    api=PATH,
    rules={PATH: {"calls": "2/1s"}},
    users=("to.users",),
)
async def run(job: ToyRing, ctx: Context) -> Json:
    """Ring them once; a `ToyRingResult` as JSON."""
    return await ctx.once("ring", partial(_ring, job, ctx))


async def _ring(job: ToyRing, ctx: Context) -> Json:
    body = {"userIds": job.to.users, "text": job.text, "uuid": ctx.job_id}
    answer = await ctx.call(method="POST", path=PATH, query={}, body=body, changes=True)
    return ToyRingResult(ring=answer["ringId"]).model_dump()


if __name__ == "__main__":
    from dingrelay_sandbox.apis.api import Fields, api
    from dingrelay_sandbox.call import Call
    from dingrelay_sandbox.state import SandboxState

    @api("POST", PATH)
    def ring(state: SandboxState, call: Call) -> Fields:
        """The sandbox's answer."""
        return {"ringId": f"ring-{call.id}"}

    from dingrelay_producers.cli import main

    main()
