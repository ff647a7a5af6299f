"""What the documents say about figures, in the languages of the READMEs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SAME = {
    *("p50", "p99", "%", "ms", "µs", "MB", "×", ""),
    *("dingrelay", "dingrelay message-send", "throttled-py", "arq", "dramatiq", "taskiq"),
    'Celery rate_limit="20/s"',
}
"""What is said alike in every language."""


@dataclass(frozen=True, slots=True)
class Translations:
    """The words of one language.

    Attributes:
        readme: the document that shows the key figures.
        page: the document that shows all of them.
        chart: the picture in both; it lies beside the page.
        guide: the document that shows how much a system carries.
        sayings: English → what is said instead; empty for English itself.
    """

    readme: str
    page: str
    chart: str
    guide: str
    sayings: Mapping[str, str] = field(default_factory=dict)

    def say(self, text: str) -> str:
        """The text in this language.

        Raises:
            KeyError: it is not translated yet.
        """
        return self.sayings[text] if self.sayings and text not in SAME else text


CHINESE = {
    # The table and the chart.
    "measured": "实测",
    "bound": "要求",
    "beside it, in the same run": "同一次运行的对照",
    "dingrelay beside its peers": "dingrelay 与同类方案",
    "longer is better": "越长越好",
    "shorter is better": "越短越好",
    "Measured": "测于",
    "cores": "核",
    "memory": "内存",
    "load before": "开始前负载",
    "minutes": "分钟",
    "All figures, with notes": "全部数据与备注",
    ", ": "，",
    "; ": "；",
    ": ": "：",
    ".": "。",
    # Units.
    "people": "人",
    "calls": "次",
    "/s": "/秒",
    "s": "秒",
    # What was measured.
    "limit used, 5–30 ms away": "限流额度（20 次/秒）利用率，单程 5–30 ms",
    "answers refused, 5–30 ms away": "被限流的调用占比，单程 5–30 ms",
    "5,000 recipients a minute": "每分钟 5000 人",
    "urgent under a broadcast": "群发占满限额时的紧急消息",
    "20,000 equal texts, one by one": "2 万条相同文本，逐条 send",
    "worker CPU of a job": "每个任务的 worker CPU",
    "campaign under 20 kills": "期间 20 次 kill -9 的群发活动",
    "recovery from 20 kills": "20 次 kill -9 后任务由其他 worker 接手",
    "single messages over HTTP": "HTTP 单条消息",
    "jobs as JSON lines over HTTP": "HTTP 逐行 JSON（NDJSON）批量任务",
    "messages beside 1,000 webhooks that hang": "有 1000 条 Webhook 卡住时的消息",
    "notices at 50/s, 20 of 100 endpoints slow or hanging": "每秒 50 条通知，100 个端点中 20 个缓慢或卡住",
    # Whose it is.
    "without those, p50": "没有这些端点时，p50",
    "without those, p99": "没有这些端点时，p99",
    "without webhooks, p50": "没有 Webhook 时，p50",
    "without webhooks, p99": "没有 Webhook 时，p99",
    "calendar second": "按自然秒计数",
    "token bucket": "按令牌桶计数",
    "sliding window": "按滑动窗口计数",
    "a loop that sleeps 2 s": "被限流就 sleep 2 秒的循环",
    "Celery and throttled-py": "Celery 加 throttled-py",
    "Celery and throttled-py, sliding window": "Celery 加 throttled-py，按滑动窗口计数",
    "delivered": "送达",
    "dropped silently": "被静默丢弃",
    "first-in-first-out Celery, p50": "先进先出的 Celery，p50",
    "first-in-first-out Celery, p99": "先进先出的 Celery，p99",
    "people a second": "每秒人数",
    "× one call a job": "相对每任务一次调用的倍数",
    "calls ÷ fewest possible": "调用次数 ÷ 理论最少次数",
    "dingrelay ÷ Celery no-op": "dingrelay ÷ Celery 空任务",
    "dingrelay ÷ Celery no-op, prefork": "dingrelay ÷ Celery 空任务（prefork）",
    "Celery no-op, threads": "Celery 空任务（threads）",
    "Celery no-op, prefork": "Celery 空任务（prefork）",
    "Celery, one POST": "Celery，只发一个 POST",
    "arq, one POST": "arq，只发一个 POST",
    "dramatiq, one POST": "dramatiq，只发一个 POST",
    "taskiq, one POST": "taskiq，只发一个 POST",
    "not exactly once": "漏收或重收",
    "repeated": "重复的调用",
    "slowest": "最慢",
    "median": "中位数",
    "requests ÷ a bare handler's": "请求数 ÷ 裸 aiohttp 处理函数",
    "bare handler's CPU ÷ ours": "裸处理函数的 CPU ÷ 网关的 CPU",
    "bare handler": "裸 aiohttp 处理函数",
    "CPU of a request, dingrelay": "每个请求的 CPU，dingrelay",
    "CPU of a request, bare handler": "每个请求的 CPU，裸处理函数",
    "jobs a second, 2 gateways": "每秒任务数，两个网关",
    "jobs a second, one gateway": "每秒任务数，一个网关",
    "CPU of a job, one gateway": "每个任务的 CPU，一个网关",
    "a message in Redis and in a worker": "一条消息在 Redis 和 worker 上的开销",
    "CPU of Redis": "Redis 的 CPU",
    "commands, those within scripts too": "Redis 命令数（含脚本内的命令）",
    "apps at 20 calls/s that fill one core": "跑满一个核的应用数（每个应用 20 次/秒）",
    "messages a second and worker core": "每个 worker 核每秒处理的消息",
    "history in SQLite": "SQLite 中的历史记录",
    "bytes": "字节",
    "jobs enqueued a second, one thread": "单线程每秒入队的任务",
    "send ÷ Celery's delay": "send ÷ Celery 的 delay",
    "send": "send",
    "Celery's delay": "Celery 的 delay",
    "send_many ÷ Celery's delay": "send_many ÷ Celery 的 delay",
    "100,000 jobs that wait": "10 万个等待中的任务",
    "memory of Redis": "Redis 内存",
    "a job": "每个任务",
    # The chart's own.
    "What gets through of 20 calls a second": "限流额度（20 次/秒）利用率",
    "Answers refused for the rate": "被限流的调用占比",
    "Wait of an urgent message under a broadcast": "群发占满限额时紧急消息的等待时间",
    "People a second, one text as 20,000 jobs": "2 万个任务发送同一文本，每秒受理人数",
    "Worker CPU of a job": "每个任务的 worker CPU",
    "dingrelay, sliding": "dingrelay，滑动窗口",
    "throttled-py, sliding": "throttled-py，滑动窗口",
    "dingrelay, p50": "dingrelay，p50",
    "dingrelay, p99": "dingrelay，p99",
    "FIFO Celery, p50": "先进先出 Celery，p50",
    "FIFO Celery, p99": "先进先出 Celery，p99",
    "send_many": "send_many",
    "Jobs enqueued a second by one thread": "单线程每秒入队的任务",
    "one call a job": "每任务一次调用",
    "Celery no-op": "Celery 空任务",
}

LANGUAGES = (
    Translations("README.md", "docs/benchmarks.md", "bench.svg", "docs/guide/operating.md"),
    Translations(
        "README.zh-CN.md",
        "docs/benchmarks.zh-CN.md",
        "bench.zh-CN.svg",
        "docs/guide/zh-CN/operating.md",
        CHINESE,
    ),
)
