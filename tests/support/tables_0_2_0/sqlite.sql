BEGIN TRANSACTION;
CREATE TABLE campaign_chunks (
	campaign VARCHAR(36) NOT NULL,
	number INTEGER NOT NULL,
	state VARCHAR(16) NOT NULL,
	size INTEGER NOT NULL,
	users TEXT NOT NULL,
	message JSON,
	task_id BIGINT,
	called_at DATETIME,
	recalled_at DATETIME,
	accepted INTEGER NOT NULL,
	error JSON,
	ambiguous BOOLEAN NOT NULL, confirmed_at DATETIME, delivered INTEGER, read INTEGER, unread INTEGER, generation INTEGER DEFAULT '0' NOT NULL,
	CONSTRAINT pk_campaign_chunks PRIMARY KEY (campaign, number),
	CONSTRAINT fk_campaign_chunks_campaign FOREIGN KEY(campaign) REFERENCES campaigns (id) ON DELETE CASCADE
);
CREATE TABLE campaign_index (
	campaign VARCHAR(36) NOT NULL,
	bucket INTEGER NOT NULL,
	part INTEGER NOT NULL,
	entries BLOB NOT NULL,
	CONSTRAINT pk_campaign_index PRIMARY KEY (campaign, bucket, part),
	CONSTRAINT fk_campaign_index_campaign FOREIGN KEY(campaign) REFERENCES campaigns (id) ON DELETE CASCADE
);
CREATE TABLE campaign_outcomes (
	campaign VARCHAR(36) NOT NULL,
	userid VARCHAR(64) NOT NULL,
	chunk INTEGER NOT NULL,
	outcome VARCHAR(16) NOT NULL,
	reason TEXT NOT NULL,
	CONSTRAINT pk_campaign_outcomes PRIMARY KEY (campaign, userid),
	CONSTRAINT fk_campaign_outcomes_campaign FOREIGN KEY(campaign) REFERENCES campaigns (id) ON DELETE CASCADE
);
CREATE TABLE campaigns (
	id VARCHAR(36) NOT NULL,
	app VARCHAR(64) NOT NULL,
	name TEXT NOT NULL,
	state VARCHAR(16) NOT NULL,
	reason TEXT NOT NULL,
	message JSON NOT NULL,
	created_at DATETIME NOT NULL,
	start_at DATETIME,
	started_at DATETIME,
	ended_at DATETIME,
	quiet VARCHAR(16) NOT NULL,
	rate INTEGER,
	weight INTEGER NOT NULL,
	error_share FLOAT NOT NULL,
	recipients INTEGER NOT NULL,
	duplicates INTEGER NOT NULL,
	malformed INTEGER NOT NULL,
	chunks INTEGER NOT NULL,
	settled INTEGER NOT NULL,
	accepted INTEGER NOT NULL,
	left_out INTEGER NOT NULL,
	failed INTEGER NOT NULL,
	calls INTEGER NOT NULL, recent_people FLOAT DEFAULT '0' NOT NULL, recent_failed FLOAT DEFAULT '0' NOT NULL, rate_credit FLOAT DEFAULT '0' NOT NULL, rate_at DATETIME, index_bits INTEGER,
	CONSTRAINT pk_campaigns PRIMARY KEY (id)
);
CREATE TABLE changes (
	number INTEGER NOT NULL,
	userid TEXT NOT NULL,
	app VARCHAR(64) NOT NULL,
	event VARCHAR(16) NOT NULL,
	fields JSON NOT NULL,
	at DATETIME NOT NULL,
	CONSTRAINT pk_changes PRIMARY KEY (number, userid),
	CONSTRAINT fk_changes_number FOREIGN KEY(number) REFERENCES runs (number) ON DELETE CASCADE
);
CREATE TABLE departments (
	app VARCHAR(64) NOT NULL,
	id BIGINT NOT NULL,
	parent BIGINT,
	name TEXT,
	fields JSON NOT NULL,
	met_in INTEGER NOT NULL,
	left_at DATETIME,
	CONSTRAINT pk_departments PRIMARY KEY (app, id)
);
CREATE TABLE memberships (
	app VARCHAR(64) NOT NULL,
	department BIGINT NOT NULL,
	userid TEXT NOT NULL,
	leader BOOLEAN,
	dept_order BIGINT,
	met_in INTEGER NOT NULL,
	CONSTRAINT pk_memberships PRIMARY KEY (app, department, userid),
	CONSTRAINT fk_memberships_app_department FOREIGN KEY(app, department) REFERENCES departments (app, id) ON DELETE CASCADE,
	CONSTRAINT fk_memberships_app_userid FOREIGN KEY(app, userid) REFERENCES users (app, userid) ON DELETE CASCADE
);
CREATE TABLE run_departments (
	number INTEGER NOT NULL,
	department BIGINT NOT NULL,
	parent BIGINT,
	state VARCHAR(16) NOT NULL,
	calls INTEGER NOT NULL,
	CONSTRAINT pk_run_departments PRIMARY KEY (number, department),
	CONSTRAINT fk_run_departments_number FOREIGN KEY(number) REFERENCES runs (number) ON DELETE CASCADE
);
CREATE TABLE runs (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	app VARCHAR(64) NOT NULL,
	run VARCHAR(64) NOT NULL,
	scope VARCHAR(16) NOT NULL,
	opened_at DATETIME NOT NULL,
	closed_at DATETIME,
	calls INTEGER NOT NULL,
	users INTEGER,
	CONSTRAINT uq_runs_app_run UNIQUE (app, run)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE users (
	app VARCHAR(64) NOT NULL,
	userid TEXT NOT NULL,
	name TEXT,
	fields JSON NOT NULL,
	met_in INTEGER NOT NULL,
	left_at DATETIME,
	CONSTRAINT pk_users PRIMARY KEY (app, userid)
);
CREATE INDEX ix_departments_app_parent ON departments (app, parent);
CREATE INDEX ix_memberships_app_userid ON memberships (app, userid);
CREATE INDEX ix_run_departments_number_parent ON run_departments (number, parent);
CREATE INDEX ix_changes_app_userid ON changes (app, userid);
CREATE INDEX ix_campaigns_state ON campaigns (state);
CREATE INDEX ix_campaign_chunks_campaign_state_number ON campaign_chunks (campaign, state, number);
CREATE INDEX ix_campaign_outcomes_campaign_chunk ON campaign_outcomes (campaign, chunk);
COMMIT;
