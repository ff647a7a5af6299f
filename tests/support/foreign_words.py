"""Finds words of English in what a Chinese reader is shown: all that is no code, name, option, field or unit."""

import re

TERMS = {
    *re.findall(
        r"\S+",
        # Names
        "AOF Bearer Celery DingTalk Excel Flower Markdown OpenAPI Prometheus RabbitMQ Redis Sentinel Stream Unicode"
        " SQLite Valkey Webhook dingrelay xls xlsx redis sqlite postgresql"
        # Terms that have no better word in Chinese
        " boundary id key cursor bytes datetime gzip secret shell socket token userid webhook webhooks worker"
        # States, lanes, types and values, which are the same everywhere
        " all auto bucket bulk calendar cancelled dead default directory done duplicate en events everyone expired false"
        " none normal off once optional professional queued required running sent sliding standard true unknown urgent zh"
        " file image markdown text video voice False Infinity MessageSend NaN True amqps http https"
        # Fields and sections
        " actionerKey agent app apps avatar base calls code codes conversation data edition email group groups"
        " host instance mobile month msg name otel overlap parse recipients remark robots rules scope singleTitle"
        " notice since singleURL telephone title unionid user users"
        # Settings of Redis, commands of a system
        " appendonly kill maxclients maxmemory noeviction save ulimit yes",
    )
}
"""Words that stand alone in a Chinese sentence."""
PHRASES = {
    "Authorization Bearer",
    "agent id",
    "app key",
    "app secret",
    "appendonly yes",
    "process code",
    "request id",
    "task id",
}
"""Terms of two words."""

_CODE = re.compile(
    r"(?m)(?:^ *|; )[\w.]+：|`[^`]*`|\[/?[a-z ]+\]|https?://\S+|\{.*\}|'[^']*'|\"[^\"]*\"|…"
    r"|\b(?:dingrelay|openssl|pip install|kill) [^一-鿿，。；：（）]*"
)
"""The field that a line or a part of one begins with, what is quoted or a placeholder, marks of rich, and command lines."""
_WORD = r"[\w./:=@*~<>$+#-]*[A-Za-z]{2}[\w./:=@*~<>$+#-]*"
_RUN = re.compile(rf"{_WORD}(?: {_WORD})*", re.ASCII)
_SPELLED = re.compile(
    r"[A-Z\d]+|.*[_/=@*$\d].*|[-.].*|.*-|.*[a-z.:-][.:-][a-zA-Z].*|.*[a-z][A-Z].*", re.ASCII
)
"""An acronym, a variable, a path, an option, a dotted or hyphenated name, a class."""


def foreign_words(text: str) -> list[str]:
    """The words of English in a text of several sentences."""
    found: list[str] = []
    for run in _RUN.findall(_CODE.sub(" · ", text)):
        words = [word.rstrip(".:") for word in run.split()]
        plain = [word for word in words if not _SPELLED.fullmatch(word)]
        if " ".join(plain) not in PHRASES and (len(plain) > 1 or not TERMS.issuperset(plain)):
            found.append(run)
    return found
