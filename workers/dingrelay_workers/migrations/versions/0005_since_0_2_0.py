"""Everything since 0.2.0: keys, approvals, webhooks, history, addresses of people, senders and traces.

Workers of 0.2.0 go on with these tables: nothing that they read or write is taken away. They look into
``alembic_version``, which stays as it is.
"""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from dingrelay_tasks import addresses

revision = "0005"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
JOB_ID = sa.String(64).with_variant(sa.String(255), "postgresql")
"""Celery clients choose ids of up to 255 characters; SQLite ignores the length."""

READ_MOMENTS = {
    "departments": ("read_at", "detailed_at"),
    "users": ("read_at", "detailed_at", "placed_at"),
    "memberships": ("read_at",),
}
PARSERS = {
    "mobile": addresses.mobile,
    "email": addresses.email,
    "org_email": addresses.email,
    "job_number": addresses.job_number,
}
PAGE = 1_000
"""People that are read and written at once."""


def upgrade() -> None:
    """Create the tables and add the columns."""
    _widen_job_ids()
    _campaigns()
    _directory()
    _keys()
    _approvals()
    _webhooks()
    _history()
    _console()
    _audit()
    _quarters()
    _readers()


def _widen_job_ids() -> None:
    # PostgreSQL rewrites no row for it.
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("runs", "run", type_=JOB_ID)


def _text(length: int) -> dict[str, Any]:
    return {"type_": sa.String(length), "nullable": False, "server_default": sa.text("''")}


def _campaigns() -> None:
    op.add_column("campaigns", sa.Column("sender", **_text(64)))
    op.add_column("campaigns", sa.Column("trace", **_text(600)))
    op.add_column("campaigns", sa.Column("writers", sa.JSON))
    excluded = sa.Column("excluded", sa.Integer, nullable=False, server_default="0")
    op.add_column("campaigns", excluded)
    op.add_column("campaigns", sa.Column("people_digest", **_text(64)))
    op.add_column("campaigns", sa.Column("checked", sa.JSON))
    op.add_column("campaigns", sa.Column("named", sa.JSON))
    # What is written of a campaign; one of 0.2.0 has no content but its message, and is of the first version.
    op.add_column("campaigns", sa.Column("content", sa.JSON))
    op.add_column("campaigns", sa.Column("file", sa.LargeBinary))
    version = sa.Column("version", sa.Integer, nullable=False, server_default="1")
    op.add_column("campaigns", version)
    for name in ("file_name", "created_by", "updated_by"):
        written = sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''"))
        op.add_column("campaigns", written)
    op.add_column("campaigns", sa.Column("updated_at", MOMENT))
    op.add_column("campaigns", sa.Column("lease", sa.String(36)))
    op.add_column("campaigns", sa.Column("lease_at", sa.BigInteger))
    op.add_column("campaigns", sa.Column("admitted_at", MOMENT))
    op.add_column("campaigns", sa.Column("testers", sa.JSON))
    op.add_column("campaigns", sa.Column("issuers", sa.JSON))
    op.execute(sa.text("update campaigns set admitted_at = started_at"))
    op.create_index("ix_campaigns_created_at_id", "campaigns", ["created_at", "id"])
    op.add_column("campaign_chunks", sa.Column("unread_users", sa.Text))
    condition = sa.text("unread_users is not null")
    op.create_index(
        "ix_campaign_chunks_unread",
        "campaign_chunks",
        ["confirmed_at"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    op.create_table(
        "campaign_malformed",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("pasted", sa.Boolean, nullable=False),
        sa.Column("written", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("users", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign"],
            ["campaigns.id"],
            name="fk_campaign_malformed_campaign",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("campaign", "number", name="pk_campaign_malformed"),
    )
    op.create_table(
        "campaign_pictures",
        sa.Column("media_id", sa.Text, nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("media_id", name="pk_campaign_pictures"),
    )
    op.create_index("ix_campaign_pictures_app_at", "campaign_pictures", ["app", "at"])
    op.create_table(
        "campaign_reads",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("read", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign"], ["campaigns.id"], name="fk_campaign_reads_campaign", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("campaign", "at", name="pk_campaign_reads"),
    )
    op.create_table(
        "message_templates",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("message", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message_templates"),
        sa.UniqueConstraint("app", "sender", "name", name="uq_message_templates_app_sender_name"),
    )
    op.create_table(
        "campaign_reviews",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", MOMENT),
        sa.Column("reason", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign"],
            ["campaigns.id"],
            name="fk_campaign_reviews_campaign",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("campaign", name="pk_campaign_reviews"),
    )


def _directory() -> None:
    for table, names in READ_MOMENTS.items():
        for name in names:
            moment = sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            op.add_column(table, moment)
    for name in (*PARSERS, "unionid"):
        op.add_column("users", sa.Column(name, sa.Text))
    unionids = set[tuple[str, str]]()
    # If a person has two rows, the one who has not left keeps the unionid.
    for has_left in (False, True):
        _fill_users(op.get_bind(), has_left, unionids)
    for name in (*PARSERS, "name"):
        op.create_index(f"ix_users_app_{name}", "users", ["app", name])
    op.create_index("ix_users_app_unionid", "users", ["app", "unionid"], unique=True)
    op.create_table(
        "omitted_fields",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("userid", sa.Text, nullable=False),
        sa.Column("field", sa.String(64), nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("read_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["app", "userid"],
            ["users.app", "users.userid"],
            name="fk_omitted_fields_app_userid",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("app", "userid", "field", name="pk_omitted_fields"),
    )
    keys = ["app", "field", "listed", "read_at"]
    op.create_index(f"ix_omitted_fields_{'_'.join(keys)}", "omitted_fields", keys)


def _fill_users(connection: sa.Connection, has_left: bool, unionids: set[tuple[str, str]]) -> None:
    columns = ("app", "userid", "fields", "left_at", "unionid", *PARSERS)
    users = sa.table("users", *(sa.column(name) for name in columns))
    change = (
        sa.update(users)
        .where(users.c.app == sa.bindparam("of_app"), users.c.userid == sa.bindparam("of_user"))
        .values({name: sa.bindparam(f"to_{name}") for name in (*PARSERS, "unionid")})
    )
    last = ("", "")
    while True:
        page = connection.execute(
            sa.select(users.c.app, users.c.userid, users.c.fields)
            .where(sa.tuple_(users.c.app, users.c.userid) > sa.tuple_(*last))
            .where(users.c.left_at.is_not(None) if has_left else users.c.left_at.is_(None))
            .order_by(users.c.app, users.c.userid)
            .limit(PAGE)
        ).all()
        if not page:
            return
        rows: list[dict[str, Any]] = []
        for row in page:
            fields: Mapping[str, Any] = (
                json.loads(row.fields) if isinstance(row.fields, str) else row.fields
            )
            unionid = fields.get("unionid") or None
            if unionid is not None and (row.app, unionid) in unionids:
                unionid = None
            elif unionid is not None:
                unionids.add((row.app, unionid))
            keys = {"of_app": row.app, "of_user": row.userid, "to_unionid": unionid}
            rows.append(keys | _compared(fields))
        connection.execute(change, rows)
        last = (page[-1].app, page[-1].userid)


def _compared(fields: Mapping[str, Any]) -> dict[str, str | None]:
    texts = {**fields, "mobile": addresses.mobile_of(fields)}
    parameters: dict[str, str | None] = {}
    for name, parse in PARSERS.items():
        text = texts.get(name)
        try:
            parameters[f"to_{name}"] = (
                parse(text.strip()) if isinstance(text, str) and text else None
            )
        except ValueError:
            parameters[f"to_{name}"] = None
    return parameters


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("apps", sa.JSON, nullable=False),
        sa.Column("lanes", sa.JSON, nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("rate", sa.String(32)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("old_secrets", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("used_at", MOMENT),
        sa.Column("owner", **_text(64)),
        sa.Column("issuers", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(128), nullable=False),
        sa.Column("job", JOB_ID, nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("template", sa.String(128), nullable=False),
        sa.Column("originator", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("business_id", sa.String(64), nullable=False),
        sa.Column("link", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("created_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("known_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("look_at", MOMENT),
        sa.PrimaryKeyConstraint("app", "instance", name="pk_approvals"),
    )
    op.create_index("ix_approvals_app_state_known_at", "approvals", ["app", "state", "known_at"])
    op.create_index("ix_approvals_app_known_at", "approvals", ["app", "known_at"])
    listed = ["known_at", "app", "instance"]
    op.create_index("ix_approvals_known_at_app_instance", "approvals", listed)
    op.create_table(
        "approval_tasks",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(128), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("app", "instance", "task", name="pk_approval_tasks"),
        sa.ForeignKeyConstraint(
            ["app", "instance"],
            ["approvals.app", "approvals.instance"],
            name="fk_approval_tasks_app_instance",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_approval_tasks_app_user_state", "approval_tasks", ["app", "user", "state"])


def _webhooks() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("types", sa.JSON, nullable=False),
        sa.Column("apps", sa.JSON, nullable=False),
        sa.Column("senders", sa.JSON, nullable=False),
        sa.Column("kinds", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("secrets", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("enabled_at", MOMENT, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failing_since", MOMENT),
        sa.Column("failed_at", MOMENT),
        sa.Column("last_failure", **_text(64)),
        sa.Column("breaker", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("retry_at", MOMENT),
        sa.Column("taken_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_table(
        "notices",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("target", **_text(72)),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("trace", **_text(600)),
        sa.PrimaryKeyConstraint("number", name="pk_notices"),
        sa.UniqueConstraint("id", name="uq_notices_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notices_recorded_at", "notices", ["recorded_at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint", sa.String(16), nullable=False),
        sa.Column("notice", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("locked_until", MOMENT),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failed_at", MOMENT),
        sa.Column("code", **_text(64)),
        sa.Column("reason", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("status", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("endpoint", "notice", name="pk_webhook_deliveries"),
        sa.ForeignKeyConstraint(
            ["notice"],
            ["notices.number"],
            name="fk_webhook_deliveries_notice",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_webhook_deliveries_notice", "webhook_deliveries", ["notice"])
    pending = ["endpoint", "notice"]
    for state, columns in (("pending", pending), ("dead", pending), ("test", ["endpoint"])):
        where = sa.text(f"state = '{state}'")
        op.create_index(
            f"ix_webhook_deliveries_{state}",
            "webhook_deliveries",
            columns,
            sqlite_where=where,
            postgresql_where=where,
        )


def _history() -> None:
    op.create_table(
        "job_history",
        sa.Column("job", JOB_ID, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("throttles", sa.Integer, nullable=False),
        sa.Column("error_class", sa.String(32), nullable=False),
        sa.Column("error_code", sa.String(128), nullable=False),
        sa.Column("ids", sa.JSON, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.PrimaryKeyConstraint("job", name="pk_job_history"),
    )
    op.create_index("ix_job_history_created_at", "job_history", ["created_at", "job"])
    for name in ("app", "sender", "kind"):
        op.create_index(f"ix_job_history_{name}", "job_history", [name, "created_at", "job"])
    # Most jobs end well.
    for name, column, ended_well in (("state", "state", "done"), ("code", "error_code", "")):
        condition = sa.text(f"{column} <> '{ended_well}'")
        op.create_index(
            f"ix_job_history_{name}",
            "job_history",
            [column, "created_at", "job"],
            sqlite_where=condition,
            postgresql_where=condition,
        )
    op.create_index("ix_job_history_ended_at", "job_history", ["ended_at"])
    op.create_table(
        "job_recipients",
        sa.Column("job", JOB_ID, nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("job", "user", name="pk_job_recipients"),
        sa.ForeignKeyConstraint(
            ["job"], ["job_history.job"], name="fk_job_recipients_job", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_job_recipients_user", "job_recipients", ["user", "at", "job"])


def _console() -> None:
    op.create_table(
        "console_links",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("directory", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("issuers", sa.JSON, nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_links"),
    )
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("directory", **_text(64)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("roles", **_text(64)),
        sa.Column("issuers", sa.JSON, nullable=False),
        sa.Column("forms", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_sessions"),
    )
    op.create_table(
        "console_forms",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("location", sa.Text),
        sa.Column("said", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("state", **_text(64)),
        sa.ForeignKeyConstraint(
            ["session"],
            ["console_sessions.digest"],
            name="fk_console_forms_session",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_console_forms"),
    )
    op.create_index("ix_console_forms_session", "console_forms", ["session"])
    op.create_table(
        "roles",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("directory", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("apps", sa.JSON, nullable=False),
        sa.Column("lanes", sa.JSON, nullable=False),
        sa.Column("given_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_roles"),
        sa.UniqueConstraint("directory", "subject", "role", name="uq_roles_directory_subject_role"),
        sqlite_autoincrement=True,
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("door", sa.String(16), nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("request", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at", "number"])
    for name in ("actor", "action", "object"):
        op.create_index(f"ix_audit_{name}", "audit", [name, "at", "number"])


def _quarters() -> None:
    op.create_table(
        "quarters",
        sa.Column("at", MOMENT, nullable=False),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in ("calls", "waiting", "done", "failed")
        ),
        sa.PrimaryKeyConstraint("at", name="pk_quarters"),
    )


def _readers() -> None:
    readers = op.create_table(
        "schema_readers", sa.Column("oldest", sa.String(32), primary_key=True)
    )
    op.bulk_insert(readers, [{"oldest": revision}])
