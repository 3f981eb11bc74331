"""Everything that a booking needs: tenants, hosts, event types, occurrences, claims, bookings, and their records.

Written as SQL, so that it says exactly what is made. The rules that code relies on have names: `claim_no_overlap` above
all. Rights and roles are no part of a revision: `nxsched.store.roles` grants them after every upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "0001"
down_revision = None

# Every table carries the tenant first in its key and sees only the tenant that the transaction has set.
TABLES = {
    "tenant": """
        name text NOT NULL,
        sender text,
        settings jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id)
    """,
    # `settings` of hosts and event types are what the calculator reads: as in a scenario, and checked as a whole.
    "host": """
        host_no bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        slug text NOT NULL,
        name text NOT NULL,
        email text,
        settings jsonb NOT NULL,
        attributes jsonb NOT NULL,
        claim_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        archived_at timestamptz,
        CONSTRAINT host_pkey PRIMARY KEY (tenant_id, host_no),
        CONSTRAINT host_slug_key UNIQUE (tenant_id, slug),
        CONSTRAINT host_number_key UNIQUE (host_no),
        CONSTRAINT host_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant
    """,
    # A period without a host closes the whole tenant. What it may block lies between the two ends of `reach`.
    "blocked_period": """
        id uuid NOT NULL,
        host_no bigint,
        definition jsonb NOT NULL,
        reach_from timestamptz NOT NULL,
        reach_until timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        CONSTRAINT blocked_period_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT blocked_period_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant,
        CONSTRAINT blocked_period_host_fkey FOREIGN KEY (tenant_id, host_no) REFERENCES nxsched.host,
        CONSTRAINT blocked_period_reach_check CHECK (reach_from < reach_until)
    """,
    "busy_time": """
        busy_no bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        host_no bigint NOT NULL,
        source text NOT NULL,
        busy_from timestamptz NOT NULL,
        busy_until timestamptz NOT NULL,
        CONSTRAINT busy_time_pkey PRIMARY KEY (tenant_id, busy_no),
        CONSTRAINT busy_time_host_fkey FOREIGN KEY (tenant_id, host_no) REFERENCES nxsched.host,
        CONSTRAINT busy_time_order_check CHECK (
            busy_from < busy_until AND isfinite(busy_from) AND isfinite(busy_until))
    """,
    # `reach`: so many minutes before and after a start, busy time matters to it.
    "event_type": """
        event_type_no bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        slug text NOT NULL,
        name text NOT NULL,
        settings jsonb NOT NULL,
        reach_before integer NOT NULL,
        reach_after integer NOT NULL,
        claim_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        archived_at timestamptz,
        CONSTRAINT event_type_pkey PRIMARY KEY (tenant_id, event_type_no),
        CONSTRAINT event_type_slug_key UNIQUE (tenant_id, slug),
        CONSTRAINT event_type_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant
    """,
    # Who is in a group of it; in which one and in what order, its settings say.
    "event_type_member": """
        event_type_no bigint NOT NULL,
        host_no bigint NOT NULL,
        CONSTRAINT event_type_member_pkey PRIMARY KEY (tenant_id, event_type_no, host_no),
        CONSTRAINT event_type_member_event_type_fkey FOREIGN KEY (tenant_id, event_type_no)
            REFERENCES nxsched.event_type ON DELETE CASCADE,
        CONSTRAINT event_type_member_host_fkey FOREIGN KEY (tenant_id, host_no) REFERENCES nxsched.host
    """,
    "occurrence": """
        id uuid NOT NULL,
        event_type_no bigint NOT NULL,
        starts_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL,
        active boolean NOT NULL,
        held_until timestamptz,
        CONSTRAINT occurrence_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT occurrence_event_type_fkey FOREIGN KEY (tenant_id, event_type_no) REFERENCES nxsched.event_type,
        CONSTRAINT occurrence_order_check CHECK (
            starts_at < ends_at AND isfinite(starts_at) AND isfinite(ends_at))
    """,
    # One for each host of an occurrence, and the proof that no host is taken twice. NULL, infinite or empty times would
    # slip past the exclusion, so they cannot be stored. `held_until` is set while nothing stands on it but what
    # ends by itself; `place` counts the hosts.
    "claim": """
        occurrence_id uuid NOT NULL,
        host_no bigint NOT NULL,
        place integer NOT NULL,
        busy_from timestamptz NOT NULL,
        busy_until timestamptz NOT NULL,
        active boolean NOT NULL,
        held_until timestamptz,
        claimed_at timestamptz NOT NULL,
        CONSTRAINT claim_pkey PRIMARY KEY (tenant_id, occurrence_id, host_no),
        CONSTRAINT claim_occurrence_fkey FOREIGN KEY (tenant_id, occurrence_id) REFERENCES nxsched.occurrence,
        CONSTRAINT claim_host_fkey FOREIGN KEY (tenant_id, host_no) REFERENCES nxsched.host,
        CONSTRAINT claim_order_check CHECK (
            busy_from < busy_until AND isfinite(busy_from) AND isfinite(busy_until)),
        CONSTRAINT claim_no_overlap EXCLUDE USING gist (
            int8range(host_no, host_no, '[]') WITH &&, tstzrange(busy_from, busy_until) WITH &&) WHERE (active)
    """,
    "booking": """
        id uuid NOT NULL,
        occurrence_id uuid NOT NULL,
        event_type_no bigint NOT NULL,
        status text NOT NULL,
        starts_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL,
        seats integer NOT NULL,
        attendee_name text,
        attendee_email text,
        attendee_address text GENERATED ALWAYS AS (lower(attendee_email)) STORED,
        attendee_timezone text,
        attendee_reference text,
        answers jsonb NOT NULL,
        metadata jsonb NOT NULL,
        location text,
        reference text,
        series_id uuid,
        organizer text,
        sequence integer NOT NULL,
        version integer NOT NULL,
        moves integer NOT NULL,
        assigned_because text,
        nonce text NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        CONSTRAINT booking_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT booking_occurrence_fkey FOREIGN KEY (tenant_id, occurrence_id) REFERENCES nxsched.occurrence,
        CONSTRAINT booking_event_type_fkey FOREIGN KEY (tenant_id, event_type_no) REFERENCES nxsched.event_type,
        CONSTRAINT booking_status_check CHECK (status IN ('held', 'pending', 'confirmed', 'cancelled', 'declined',
            'expired', 'released', 'completed', 'no_show')),
        CONSTRAINT booking_expiry_check CHECK (status NOT IN ('held', 'pending') OR expires_at IS NOT NULL),
        CONSTRAINT booking_order_check CHECK (
            starts_at < ends_at AND isfinite(starts_at) AND isfinite(ends_at)),
        CONSTRAINT booking_seats_check CHECK (seats > 0),
        CONSTRAINT booking_version_check CHECK (version > 0 AND sequence >= 0 AND moves >= 0)
    """,
    "audit_entry": """
        booking_id uuid NOT NULL,
        version integer NOT NULL,
        action text NOT NULL,
        actor jsonb,
        reason text,
        changes jsonb NOT NULL,
        at timestamptz NOT NULL,
        CONSTRAINT audit_entry_pkey PRIMARY KEY (tenant_id, booking_id, version),
        CONSTRAINT audit_entry_booking_fkey FOREIGN KEY (tenant_id, booking_id) REFERENCES nxsched.booking
    """,
    "outbox_event": """
        id uuid NOT NULL,
        booking_id uuid NOT NULL,
        version integer NOT NULL,
        kind text NOT NULL,
        payload jsonb NOT NULL,
        occurred_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        lease_owner text,
        leased_until timestamptz,
        done_at timestamptz,
        dead_at timestamptz,
        last_error text,
        CONSTRAINT outbox_event_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT outbox_event_version_key UNIQUE (tenant_id, booking_id, version)
    """,
    # One for each version of a booking, recipient and time; `ended` says what has become of it.
    "reminder": """
        id uuid NOT NULL,
        booking_id uuid NOT NULL,
        version integer NOT NULL,
        kind text NOT NULL,
        recipient text NOT NULL,
        before text NOT NULL,
        wished boolean NOT NULL DEFAULT false,
        occurred_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        lease_owner text,
        leased_until timestamptz,
        done_at timestamptz,
        dead_at timestamptz,
        ended_at timestamptz GENERATED ALWAYS AS (coalesce(done_at, dead_at)) STORED,
        ended text,
        last_error text,
        CONSTRAINT reminder_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT reminder_booking_fkey FOREIGN KEY (tenant_id, booking_id) REFERENCES nxsched.booking,
        CONSTRAINT reminder_once_key UNIQUE (tenant_id, booking_id, version, before, recipient),
        CONSTRAINT reminder_ended_check CHECK ((ended IS NULL) = (done_at IS NULL AND dead_at IS NULL)
            AND coalesce(ended IN ('sent', 'superseded', 'skipped', 'dead'), true))
    """,
    "message_template": """
        kind text NOT NULL,
        channel text NOT NULL,
        locale text NOT NULL,
        audience text NOT NULL,
        subject text,
        text text NOT NULL,
        html text,
        saved_at timestamptz NOT NULL,
        CONSTRAINT message_template_pkey PRIMARY KEY (tenant_id, kind, channel, locale, audience),
        CONSTRAINT message_template_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant
    """,
    "message_preference": """
        who text NOT NULL,
        definition jsonb NOT NULL,
        saved_at timestamptz NOT NULL,
        CONSTRAINT message_preference_pkey PRIMARY KEY (tenant_id, who),
        CONSTRAINT message_preference_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant
    """,
    "webhook": """
        id uuid NOT NULL,
        url text NOT NULL,
        kinds jsonb NOT NULL,
        secrets jsonb NOT NULL,
        enabled boolean NOT NULL,
        disabled_because text,
        failures integer NOT NULL DEFAULT 0,
        rests_until timestamptz,
        created_at timestamptz NOT NULL,
        CONSTRAINT webhook_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT webhook_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES nxsched.tenant
    """,
    # One for each event and endpoint. Who books must not wait for who deletes an endpoint, nor fail by it: so nothing
    # holds the two together, and what is left of an endpoint that is gone ends as dead.
    "webhook_delivery": """
        id uuid NOT NULL,
        webhook_id uuid NOT NULL,
        event_id uuid NOT NULL,
        booking_id uuid NOT NULL,
        version integer NOT NULL,
        kind text NOT NULL,
        occurred_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        lease_owner text,
        leased_until timestamptz,
        done_at timestamptz,
        dead_at timestamptz,
        last_error text,
        answer jsonb,
        CONSTRAINT webhook_delivery_pkey PRIMARY KEY (tenant_id, id),
        CONSTRAINT webhook_delivery_event_key UNIQUE (tenant_id, event_id, webhook_id),
        CONSTRAINT webhook_delivery_event_fkey FOREIGN KEY (tenant_id, event_id)
            REFERENCES nxsched.outbox_event ON DELETE CASCADE
    """,
    "idempotency_key": """
        key text NOT NULL,
        fingerprint text NOT NULL,
        result jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT idempotency_key_pkey PRIMARY KEY (tenant_id, key)
    """,
}

INDEXES = (
    "blocked_period_host ON nxsched.blocked_period (tenant_id, host_no, reach_until)",
    "busy_time_host ON nxsched.busy_time (tenant_id, host_no, busy_until, busy_from)",
    "event_type_member_host ON nxsched.event_type_member (tenant_id, host_no)",
    "occurrence_event_type ON nxsched.occurrence (tenant_id, event_type_no, starts_at) WHERE active",
    "claim_host ON nxsched.claim (tenant_id, host_no, active, busy_from, busy_until)",
    # Its condition keeps the planner from reading a host's busy time by it: only who asks for the latest says it too.
    "claim_latest ON nxsched.claim (tenant_id, host_no, claimed_at) WHERE active AND claimed_at > '-infinity'",
    "booking_start ON nxsched.booking (tenant_id, starts_at, id)",
    "booking_occurrence ON nxsched.booking (tenant_id, occurrence_id)",
    "booking_event_type ON nxsched.booking (tenant_id, event_type_no, starts_at, id)",
    # A column of its own: under row-level security no index of lower() is looked into, for it might leak.
    "booking_attendee_address ON nxsched.booking (tenant_id, attendee_address, starts_at)",
    "booking_attendee_reference ON nxsched.booking (tenant_id, attendee_reference, starts_at)",
    "booking_series ON nxsched.booking (tenant_id, series_id) WHERE series_id IS NOT NULL",
    "booking_open ON nxsched.booking (tenant_id, status, expires_at) WHERE status IN ('held', 'pending')",
    "outbox_event_undone ON nxsched.outbox_event (due_at) WHERE done_at IS NULL AND dead_at IS NULL",
    """outbox_event_oldest ON nxsched.outbox_event (tenant_id, booking_id, version)
        WHERE done_at IS NULL AND dead_at IS NULL""",
    "outbox_event_done ON nxsched.outbox_event (tenant_id, done_at) WHERE done_at IS NOT NULL",
    "outbox_event_dead ON nxsched.outbox_event (dead_at) WHERE dead_at IS NOT NULL AND done_at IS NULL",
    "reminder_undone ON nxsched.reminder (due_at) WHERE done_at IS NULL AND dead_at IS NULL",
    "reminder_waiting ON nxsched.reminder (tenant_id, booking_id) WHERE done_at IS NULL AND dead_at IS NULL",
    "reminder_ended ON nxsched.reminder (tenant_id, ended_at) WHERE ended_at IS NOT NULL",
    "reminder_dead ON nxsched.reminder (dead_at) WHERE dead_at IS NOT NULL AND done_at IS NULL",
    """webhook_delivery_undone ON nxsched.webhook_delivery (due_at)
        WHERE done_at IS NULL AND dead_at IS NULL""",
    """webhook_delivery_oldest ON nxsched.webhook_delivery (tenant_id, webhook_id, booking_id, version)
        WHERE done_at IS NULL AND dead_at IS NULL""",
    """webhook_delivery_dead ON nxsched.webhook_delivery (dead_at)
        WHERE dead_at IS NOT NULL AND done_at IS NULL""",
    "webhook_delivery_log ON nxsched.webhook_delivery (tenant_id, occurred_at, booking_id, version, id)",
    "webhook_delivery_log_of_webhook ON nxsched.webhook_delivery (tenant_id, webhook_id, occurred_at)",
    "webhook_delivery_log_of_booking ON nxsched.webhook_delivery (tenant_id, booking_id)",
    "idempotency_key_expiry ON nxsched.idempotency_key (tenant_id, expires_at)",
)

# Rows that every booking changes leave room beside them: a new version on the same page touches no index.
BUSY_TABLES = ("host", "event_type", "occurrence", "claim", "booking", "outbox_event", "reminder", "webhook_delivery")


# A queue is as long as what is vacuumed away of it, not a fifth of all that it ever held.
QUEUES = ("outbox_event", "reminder", "webhook_delivery")
QUEUE = """ALTER TABLE nxsched.{table} SET (autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)"""

# The audit trail and the events are not for the application's role to change. What it may do is to take out what tells
# of a person, of the tenant that is set, and nothing else: so this runs with the owner's rights.
ERASE_RECORDS = """CREATE FUNCTION nxsched.erase_records(bookings uuid[]) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on AS $$
UPDATE nxsched.audit_entry SET reason = NULL,
    changes = changes - '{attendee,answers,location,metadata,reference}'::text[],
    actor = CASE WHEN actor->>'role' = 'attendee' THEN actor || '{"id": null, "name": null}' ELSE actor END
WHERE tenant_id = current_setting('nxsched.tenant_id') AND booking_id = ANY(bookings);
UPDATE nxsched.outbox_event e SET last_error = NULL,
    payload = e.payload || jsonb_build_object('reason', NULL,
        'actor', CASE WHEN e.payload->'actor'->>'role' = 'attendee'
            THEN e.payload->'actor' || '{"id": null, "name": null}' ELSE e.payload->'actor' END,
        'previous', CASE WHEN e.payload->'previous'->>'location' <> b.location IS NOT FALSE
            AND e.payload->'previous' <> 'null'
            THEN e.payload->'previous' || '{"location": null}' ELSE e.payload->'previous' END,
        'booking',
        (e.payload->'booking') || '{"attendee": null, "answers": {}, "metadata": {}, "reference": null}'
        || jsonb_build_object('location',
            CASE WHEN e.payload->'booking'->>'location' = b.location THEN b.location END))
FROM nxsched.booking b
WHERE e.tenant_id = current_setting('nxsched.tenant_id') AND e.booking_id = ANY(bookings)
    AND b.tenant_id = e.tenant_id AND b.id = e.booking_id;
UPDATE nxsched.reminder SET last_error = NULL
WHERE tenant_id = current_setting('nxsched.tenant_id') AND booking_id = ANY(bookings) AND last_error IS NOT NULL;
$$"""

# What is left of a person in the records of bookings that are not theirs, or not any more: who held what another
# confirmed, who acted for another.
ERASE_PERSON = """CREATE FUNCTION nxsched.erase_person(person text, address text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = on AS $$
UPDATE nxsched.audit_entry SET actor = actor || '{"id": null, "name": null}'
WHERE tenant_id = current_setting('nxsched.tenant_id') AND actor->>'role' = 'attendee' AND actor->>'id' = person;
UPDATE nxsched.audit_entry SET changes = changes - 'attendee'
WHERE tenant_id = current_setting('nxsched.tenant_id') AND EXISTS (
    SELECT FROM jsonb_path_query(changes, '$.attendee[*]') AS one(who)
    WHERE one.who->>'reference' = person OR lower(one.who->>'email') = lower(address));
UPDATE nxsched.outbox_event SET last_error = NULL, payload = jsonb_set(payload, '{actor}',
    payload->'actor' || '{"id": null, "name": null}')
WHERE tenant_id = current_setting('nxsched.tenant_id')
    AND payload->'actor'->>'role' = 'attendee' AND payload->'actor'->>'id' = person;
UPDATE nxsched.outbox_event SET last_error = NULL, payload = jsonb_set(payload, '{booking,attendee}', 'null')
WHERE tenant_id = current_setting('nxsched.tenant_id') AND (
    payload->'booking'->'attendee'->>'reference' = person
    OR lower(payload->'booking'->'attendee'->>'email') = lower(address));
$$"""


def upgrade(op: Operations) -> None:
    """Make the tables."""
    for table, columns in TABLES.items():
        fill = " WITH (fillfactor = 80)" if table in BUSY_TABLES else ""
        op.execute(f"CREATE TABLE nxsched.{table} (tenant_id text NOT NULL, {columns}){fill}")
    for table in QUEUES:
        op.execute(QUEUE.format(table=table))
    for index in INDEXES:
        op.execute(f"CREATE INDEX {index}")
    for table in TABLES:
        mine = "tenant_id = (SELECT nullif(current_setting('nxsched.tenant_id', true), ''))"
        op.execute(f"ALTER TABLE nxsched.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_of_tenant ON nxsched.{table} USING ({mine}) WITH CHECK ({mine})")
    for function in (ERASE_RECORDS, ERASE_PERSON):
        op.execute(function)
    op.execute("REVOKE ALL ON FUNCTION nxsched.erase_records(uuid[]), nxsched.erase_person(text, text) FROM PUBLIC")
