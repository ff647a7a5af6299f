"""订单服务：发消息、发起审批、接收 Webhook。运行：python orders.py runserver

为了便于阅读，整个 Django 项目写在一个文件里；放进已有项目时，只需要下面的四个视图和 urlpatterns。
"""

import os
import sys
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from standardwebhooks import Webhook, WebhookVerificationError

from dingrelay_producers import Client, State, WaitTimeout
from dingrelay_tasks import ApprovalCreate, Contract, MessageSend

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY=os.urandom(32).hex()
    )

if not os.environ.get("SECRET"):
    sys.exit("请设置环境变量 SECRET：登记接收地址时得到的 whsec_…")

FAILED = {State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}

# webhook-id → 通知。同一通知可能到达多次；生产环境应存入数据库，保留一周
notices: dict[str, Any] = {}


@cache
def client() -> Client:
    """一个进程一个 Client，所有线程共用；fork 之后才打开连接。"""
    return Client()


def parameter(request: HttpRequest, name: str) -> str:
    """网址中的参数，如 ?user=u1 中的 u1；缺少时应答 400。"""
    if value := request.GET.get(name):
        return value
    raise BadRequest(f"网址中缺少参数 {name}")


def outcome(job: Contract) -> JsonResponse:
    """提交任务，最多等 30 秒；没有结束也已提交，结果由 Webhook 通知。"""
    ref = client().send(job)
    try:
        status = ref.wait(timeout=30)
    except WaitTimeout:
        return JsonResponse(ref.status().to_json(), status=202)
    if status.state in FAILED:  # 任务已接收，但没有成功：原因在 error 中
        reason = status.error.message if status.error else ""
        return JsonResponse({"detail": f"任务状态为 {status.state}：{reason}"}, status=502)
    return JsonResponse(status.to_json())


@csrf_exempt
@require_POST
def paid(request: HttpRequest, number: str) -> JsonResponse:
    """通知下单的人：订单已付款。"""
    job = MessageSend.parse(
        {
            "to": {"users": [parameter(request, "user")]},
            "message": {"msgtype": "text", "text": {"content": f"订单 {number} 已付款（Django）"}},
            # 幂等键相同的任务只执行一次，所以可以放心重试
            "idempotency_key": f"order-{number}-paid",
        }
    )
    return outcome(job)


@csrf_exempt
@require_POST
def leave(request: HttpRequest, number: str) -> JsonResponse:
    """发起请假审批。"""
    job = ApprovalCreate.parse(
        {
            "process_code": "PROC-LEAVE",
            "originator": parameter(request, "user"),
            "form": {"事由": "出差", "天数": parameter(request, "days")},
            "idempotency_key": f"leave-{number}",
        }
    )
    return outcome(job)


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """接收通知。签名针对原始字节，所以先验签再解析。"""
    try:
        headers = {name.lower(): value for name, value in request.headers.items()}
        notice = Webhook(os.environ["SECRET"]).verify(request.body, headers)
    except WebhookVerificationError:
        return HttpResponse(status=401)
    notices[request.headers["webhook-id"]] = notice
    return HttpResponse(status=204)


@require_GET
def received(request: HttpRequest) -> JsonResponse:
    """收到的通知。"""
    return JsonResponse(list(notices.values()), safe=False)


urlpatterns = [
    path("orders/<number>/paid", paid),
    path("leaves/<number>", leave),
    path("dingrelay", receive),
    path("notices", received),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
