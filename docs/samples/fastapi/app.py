"""订单服务：发消息、发起审批、接收 Webhook。运行：uvicorn app:app"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from standardwebhooks import Webhook, WebhookVerificationError

from dingrelay_producers import AsyncClient
from dingrelay_tasks import ApprovalCreate, MessageSend

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


@app.post("/orders/{number}/paid")
async def paid(number: str, user: str) -> dict[str, Any]:
    """通知下单的人：订单已付款。"""
    job = MessageSend.parse(
        {
            "to": {"users": [user]},
            "message": {"msgtype": "text", "text": {"content": f"订单 {number} 已付款（FastAPI）"}},
            # 幂等键相同的任务只执行一次，所以可以放心重试
            "idempotency_key": f"order-{number}-paid",
        }
    )
    ref = await client.send(job)
    return (await ref.wait(timeout=30)).to_json()


@app.post("/leaves/{number}")
async def leave(number: str, user: str, days: str) -> dict[str, Any]:
    """发起请假审批。"""
    job = ApprovalCreate.parse(
        {
            "process_code": "PROC-LEAVE",
            "originator": user,
            "form": {"事由": "出差", "天数": days},
            "idempotency_key": f"leave-{number}",
        }
    )
    ref = await client.send(job)
    return (await ref.wait(timeout=30)).to_json()


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
