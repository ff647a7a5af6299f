CREATE TABLE public.campaign_chunks (
    campaign character varying(36) NOT NULL,
    number integer NOT NULL,
    state character varying(16) NOT NULL,
    size integer NOT NULL,
    users text NOT NULL,
    message json,
    task_id bigint,
    called_at timestamp with time zone,
    recalled_at timestamp with time zone,
    accepted integer NOT NULL,
    error json,
    ambiguous boolean NOT NULL,
    confirmed_at timestamp with time zone,
    delivered integer,
    read integer,
    unread integer,
    generation integer DEFAULT 0 NOT NULL
);
CREATE TABLE public.campaign_index (
    campaign character varying(36) NOT NULL,
    bucket integer NOT NULL,
    part integer NOT NULL,
    entries bytea NOT NULL
);
CREATE TABLE public.campaign_outcomes (
    campaign character varying(36) NOT NULL,
    userid character varying(64) NOT NULL,
    chunk integer NOT NULL,
    outcome character varying(16) NOT NULL,
    reason text NOT NULL
);
CREATE TABLE public.campaigns (
    id character varying(36) NOT NULL,
    app character varying(64) NOT NULL,
    name text NOT NULL,
    state character varying(16) NOT NULL,
    reason text NOT NULL,
    message json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    start_at timestamp with time zone,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    quiet character varying(16) NOT NULL,
    rate integer,
    weight integer NOT NULL,
    error_share double precision NOT NULL,
    recipients integer NOT NULL,
    duplicates integer NOT NULL,
    malformed integer NOT NULL,
    chunks integer NOT NULL,
    settled integer NOT NULL,
    accepted integer NOT NULL,
    left_out integer NOT NULL,
    failed integer NOT NULL,
    calls integer NOT NULL,
    recent_people double precision DEFAULT '0'::double precision NOT NULL,
    recent_failed double precision DEFAULT '0'::double precision NOT NULL,
    rate_credit double precision DEFAULT '0'::double precision NOT NULL,
    rate_at timestamp with time zone,
    index_bits integer
);
CREATE TABLE public.changes (
    number integer NOT NULL,
    userid text NOT NULL,
    app character varying(64) NOT NULL,
    event character varying(16) NOT NULL,
    fields json NOT NULL,
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.departments (
    app character varying(64) NOT NULL,
    id bigint NOT NULL,
    parent bigint,
    name text,
    fields json NOT NULL,
    met_in integer NOT NULL,
    left_at timestamp with time zone
);
CREATE TABLE public.memberships (
    app character varying(64) NOT NULL,
    department bigint NOT NULL,
    userid text NOT NULL,
    leader boolean,
    dept_order bigint,
    met_in integer NOT NULL
);
CREATE TABLE public.run_departments (
    number integer NOT NULL,
    department bigint NOT NULL,
    parent bigint,
    state character varying(16) NOT NULL,
    calls integer NOT NULL
);
CREATE TABLE public.runs (
    number integer NOT NULL,
    app character varying(64) NOT NULL,
    run character varying(64) NOT NULL,
    scope character varying(16) NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    calls integer NOT NULL,
    users integer
);
CREATE SEQUENCE public.runs_number_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.runs_number_seq OWNED BY public.runs.number;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.users (
    app character varying(64) NOT NULL,
    userid text NOT NULL,
    name text,
    fields json NOT NULL,
    met_in integer NOT NULL,
    left_at timestamp with time zone
);
ALTER TABLE ONLY public.runs ALTER COLUMN number SET DEFAULT nextval('public.runs_number_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0004');
SELECT pg_catalog.setval('public.runs_number_seq', 1, false);
ALTER TABLE ONLY public.campaign_chunks
    ADD CONSTRAINT pk_campaign_chunks PRIMARY KEY (campaign, number);
ALTER TABLE ONLY public.campaign_index
    ADD CONSTRAINT pk_campaign_index PRIMARY KEY (campaign, bucket, part);
ALTER TABLE ONLY public.campaign_outcomes
    ADD CONSTRAINT pk_campaign_outcomes PRIMARY KEY (campaign, userid);
ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT pk_campaigns PRIMARY KEY (id);
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT pk_changes PRIMARY KEY (number, userid);
ALTER TABLE ONLY public.departments
    ADD CONSTRAINT pk_departments PRIMARY KEY (app, id);
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT pk_memberships PRIMARY KEY (app, department, userid);
ALTER TABLE ONLY public.run_departments
    ADD CONSTRAINT pk_run_departments PRIMARY KEY (number, department);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT pk_runs PRIMARY KEY (number);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (app, userid);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT uq_runs_app_run UNIQUE (app, run);
CREATE INDEX ix_campaign_chunks_campaign_state_number ON public.campaign_chunks USING btree (campaign, state, number);
CREATE INDEX ix_campaign_outcomes_campaign_chunk ON public.campaign_outcomes USING btree (campaign, chunk);
CREATE INDEX ix_campaigns_state ON public.campaigns USING btree (state);
CREATE INDEX ix_changes_app_userid ON public.changes USING btree (app, userid);
CREATE INDEX ix_departments_app_parent ON public.departments USING btree (app, parent);
CREATE INDEX ix_memberships_app_userid ON public.memberships USING btree (app, userid);
CREATE INDEX ix_run_departments_number_parent ON public.run_departments USING btree (number, parent);
ALTER TABLE ONLY public.campaign_chunks
    ADD CONSTRAINT fk_campaign_chunks_campaign FOREIGN KEY (campaign) REFERENCES public.campaigns(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.campaign_index
    ADD CONSTRAINT fk_campaign_index_campaign FOREIGN KEY (campaign) REFERENCES public.campaigns(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.campaign_outcomes
    ADD CONSTRAINT fk_campaign_outcomes_campaign FOREIGN KEY (campaign) REFERENCES public.campaigns(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT fk_changes_number FOREIGN KEY (number) REFERENCES public.runs(number) ON DELETE CASCADE;
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT fk_memberships_app_department FOREIGN KEY (app, department) REFERENCES public.departments(app, id) ON DELETE CASCADE;
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT fk_memberships_app_userid FOREIGN KEY (app, userid) REFERENCES public.users(app, userid) ON DELETE CASCADE;
ALTER TABLE ONLY public.run_departments
    ADD CONSTRAINT fk_run_departments_number FOREIGN KEY (number) REFERENCES public.runs(number) ON DELETE CASCADE;
