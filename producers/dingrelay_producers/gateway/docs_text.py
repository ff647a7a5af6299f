"""What the page ``/docs`` says in two languages; the rest comes from the OpenAPI document."""

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]

LABELS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "dingrelay over HTTP",
        "other": "中文",
        "document": "OpenAPI document",
        "operations": "Operations",
        "schemas": "Schemas",
        "problems": "Problems",
        "scope": "Scope",
        "any key": "any key",
        "no key": "no key",
        "parameters": "Parameters",
        "body": "Body",
        "answers": "Answers",
        "name": "Name",
        "place": "In",
        "type": "Type",
        "status": "Status",
        "what": "What",
        "content": "Content",
        "start": "Present an API key in each request. Its owner got it from `dingrelay key create`.",
        "problem intro": "A refusal is a problem document (RFC 9457). Its `type` is one of these:",
    },
    "zh": {
        "title": "dingrelay HTTP 接口",
        "other": "English",
        "document": "OpenAPI 文档",
        "operations": "接口",
        "schemas": "数据结构",
        "problems": "错误",
        "scope": "权限",
        "any key": "任意密钥",
        "no key": "无需密钥",
        "parameters": "参数",
        "body": "请求体",
        "answers": "应答",
        "name": "名称",
        "place": "位置",
        "type": "类型",
        "status": "状态码",
        "what": "说明",
        "content": "内容",
        "start": "每个请求都要带上 API 密钥，由 `dingrelay key create` 生成。",
        "problem intro": "被拒绝的请求以问题文档（RFC 9457）应答，`type` 是下列之一：",
    },
}

CHINESE: Mapping[str, str] = {
    "sendMessage": "发送工作通知",
    "createApproval": "发起审批实例",
    "syncUsers": "同步通讯录",
    "callApi": "调用任意钉钉接口",
    "sendJobs": "批量提交任务，每行一个 JSON 对象",
    "getJob": "查询任务状态",
    "listJobs": "最近的任务",
    "listDead": "失败（dead）与结果未知（unknown）的任务",
    "cancelJob": "取消尚未执行的任务",
    "requeueJob": "让已结束的任务重新执行",
    "discardJob": "彻底丢弃失败或结果未知的任务",
    "resolveJob": "告知结果未知的任务究竟如何",
    "getLimits": "各项限流的现状",
    "getHealth": "进程是否存活",
    "getReadiness": "Redis 与数据库是否可用",
    "getMetrics": "本进程的 Prometheus 指标",
    "getOpenApi": "OpenAPI 文档",
    "showDocs": "本页面",
    "getDocsStyle": "本页面的样式",
}
"""Summaries of operations; one that is missing is shown in English."""

TAGS: Mapping[str, str] = {
    "jobs": "任务：提交与查询。",
    "campaigns": "群发：一条消息发给很多人。",
    "directory": "通讯录：上次同步的结果。",
    "keys": "API 密钥。",
    "operation": "运维：负载均衡、编排系统与值班人员。",
}
