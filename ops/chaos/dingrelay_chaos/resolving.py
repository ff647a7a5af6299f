"""How a person settles an approval that ended unknown: by a look into DingTalk."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dingrelay_chaos.system import System


def resolve(system: "System", job: str) -> str:
    """Say that the instance exists, or that it does not.

    Where several equal jobs are unknown nobody can say whose an instance is: each is given one
    that no other job names.
    """
    client: Any = system.client
    if not hasattr(client, "resolve"):
        return "no such command"
    if client.status(job).state != "unknown":
        return "not unknown"
    tag = next((each.tag for each in system.asked.approvals if each.job == job), None)
    if tag is None:
        return "no approval"
    named = {
        (client.status(each.job).result or {}).get("instance_id")
        for each in system.asked.approvals
        if each.job and each.accepted == "yes" and each.tag == tag
    }
    free = [
        each["id"]
        for each in system.sandbox.approvals()
        if each["id"] not in named and any(tag == value for _, value in each["form"])
    ]
    answer = client.resolve(job, instance=free[0]) if free else client.resolve(job, created=False)
    return str(answer)
