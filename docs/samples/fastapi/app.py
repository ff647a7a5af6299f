"""订单服务：发消息、发起审批、接收 Webhook。运行：uvicorn app:app"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

from dingrelay_producers import AsyncClient, State, WaitTimeout
from dingrelay_tasks import ApprovalCreate, Contract, MessageSend

if not os.environ.get("SECRET"):
    sys.exit("请设置环境变量 SECRET：登记接收地址时得到的 whsec_…")

FAILED = {State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}
client = AsyncClient()
webhook = Webhook(os.environ["SECRET"])
# webhook-id → 通知。同一通知可能到达多次；生产环境应存入数据库，保留一周
notices: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """应用停止时关闭连接。"""
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


async def outcome(job: Contract, response: Response) -> dict[str, Any]:
    """提交任务，最多等 30 秒；没有结束也已提交，结果由 Webhook 通知。"""
    ref = await client.send(job)
    try:
        status = await ref.wait(timeout=30)
    except WaitTimeout:
        response.status_code = 202
        return (await ref.status()).to_json()
    if status.state in FAILED:  # 任务已接收，但没有成功：原因在 error 中
        reason = status.error.message if status.error else ""
        raise HTTPException(502, f"任务状态为 {status.state}：{reason}")
    return status.to_json()


@app.post("/orders/{number}/paid")
async def paid(number: str, user: str, response: Response) -> dict[str, Any]:
    """通知下单的人：订单已付款。"""
    job = MessageSend.parse(
        {
            "to": {"users": [user]},
            "message": {"msgtype": "text", "text": {"content": f"订单 {number} 已付款（FastAPI）"}},
            # 幂等键相同的任务只执行一次，所以可以放心重试
            "idempotency_key": f"order-{number}-paid",
        }
    )
    return await outcome(job, response)


@app.post("/leaves/{number}")
async def leave(number: str, user: str, days: str, response: Response) -> dict[str, Any]:
    """发起请假审批。"""
    job = ApprovalCreate.parse(
        {
            "process_code": "PROC-LEAVE",
            "originator": user,
            "form": {"事由": "出差", "天数": days},
            "idempotency_key": f"leave-{number}",
        }
    )
    return await outcome(job, response)


@app.post("/dingrelay", status_code=204)
async def receive(request: Request) -> None:
    """接收通知。签名针对原始字节，所以先验签再解析。"""
    try:
        notice = webhook.verify(await request.body(), dict(request.headers))
    except WebhookVerificationError:
        raise HTTPException(401) from None
    notices[request.headers["webhook-id"]] = notice


@app.get("/notices")
async def received() -> list[Any]:
    """收到的通知。"""
    return list(notices.values())
