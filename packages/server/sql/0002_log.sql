-- Tenants, logs, heads, tiles and entries. Everything from here on runs as tallystick_owner.

create table tallystick.installation (
  singleton boolean constraint installation_pkey primary key default true constraint installation_singleton check (singleton),
  origin text not null constraint installation_origin_form check (origin ~ '^[^[:space:]+]{1,255}$'),
  created_at timestamptz not null default now()
);
comment on table tallystick.installation is 'One row: the origin that starts the name of every log. Fixed when the database is made.';

create table tallystick.tenants (
  id uuid constraint tenants_pkey primary key default gen_random_uuid(),
  slug text not null constraint tenants_slug_key unique constraint tenants_slug_form check (slug ~ '^[a-z0-9-]{1,63}$'),
  name text not null constraint tenants_name_size check (octet_length(name) between 1 and 1024),
  status text not null default 'active' constraint tenants_status_known check (status in ('active', 'inactive', 'suspended')),
  created_at timestamptz not null default now()
);

create table tallystick.logs (
  id integer generated always as identity constraint logs_pkey primary key,
  tenant_id uuid not null constraint logs_tenant_fkey references tallystick.tenants (id),
  name text not null constraint logs_name_key unique,
  slug text not null constraint logs_slug_key unique,
  predecessor_id integer constraint logs_predecessor_fkey references tallystick.logs (id)
    constraint logs_predecessor_key unique,
  created_at timestamptz not null default now(),
  constraint logs_id_tenant_key unique (id, tenant_id) -- what rows that name a log and a tenant refer to: they must belong together
);
create unique index logs_first_of_tenant on tallystick.logs (tenant_id) where predecessor_id is null;
comment on table tallystick.logs is
  'Rows never change. The row is what a writer locks (FOR NO KEY UPDATE) while it appends: a row that is updated in each transaction collapses while any snapshot is open, this one does not.';
comment on column tallystick.logs.name is 'The log''s origin line, "<origin>/<slug>": stands in every leaf, kept and never re-derived.';

-- One row a commit: the size and root of the tree after it. Inserted, never updated.
create table tallystick.heads (
  log_id integer not null,
  size bigint not null constraint heads_size_not_negative check (size >= 0),
  tenant_id uuid not null,
  recorded_at timestamptz not null,
  root bytea not null constraint heads_root_size check (octet_length(root) = 32),
  constraint heads_pkey primary key (log_id, size),
  constraint heads_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id)
);
-- All entries of a commit share its recorded_at, so this small index turns any time into a position of the log.
create index heads_recorded_at on tallystick.heads (log_id, recorded_at, size);

-- The chain of each service: its newest entry after each commit that has entries of it.
create table tallystick.service_heads (
  log_id integer not null,
  service_id text not null,
  seq bigint not null constraint service_heads_seq_not_negative check (seq >= 0),
  tenant_id uuid not null,
  leaf_hash bytea not null constraint service_heads_leaf_hash_size check (octet_length(leaf_hash) = 32),
  constraint service_heads_pkey primary key (log_id, service_id, seq),
  constraint service_heads_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id)
);

-- Full C2SP tiles of height 8. `root` is the tile's own hash, which is an entry of the tile above it.
create table tallystick.tiles (
  log_id integer not null,
  level smallint not null constraint tiles_level_range check (level between 0 and 6),
  index bigint not null constraint tiles_index_not_negative check (index >= 0),
  tenant_id uuid not null,
  root bytea not null constraint tiles_root_size check (octet_length(root) = 32),
  data bytea not null constraint tiles_data_size check (octet_length(data) = 8192),
  constraint tiles_pkey primary key (log_id, level, index),
  constraint tiles_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id)
);
alter table tallystick.tiles alter column data set storage external; -- hashes do not compress

-- The entries. No foreign key to logs: it costs a look-up a row, and lock_logs has just locked that very row.
-- `id` has no index: its time part leads to a head, and the head to the position (log/reader).
create table tallystick.entries (
  seq bigint not null constraint entries_seq_not_negative check (seq >= 0),
  recorded_at timestamptz not null,
  occurred_at timestamptz,
  tenant_id uuid not null,
  id uuid not null,
  log_id integer not null,
  columns_version smallint not null,
  leaf_hash bytea not null constraint entries_leaf_hash_size check (octet_length(leaf_hash) = 32),
  terms bigint[] not null,
  action text not null,
  leaf text not null constraint entries_leaf_size check (octet_length(leaf) <= 65535),
  constraint entries_pkey primary key (log_id, seq, recorded_at)
) partition by range (recorded_at);
-- A short pending list: every search reads all of it, and a commit that fills it pays for the merge.
create index entries_terms on tallystick.entries using gin (terms) with (fastupdate = on, gin_pending_list_limit = 512);
comment on column tallystick.entries.leaf is 'The canonical bytes of the entry, exactly as hashed: leaf_hash = sha256(''\x00''::bytea || convert_to(leaf, ''UTF8'')).';
comment on column tallystick.entries.terms is 'Search terms: tallystick.term(log_id, field, value, seq). Defaults (outcome success, severity INFO, actor type user) have none.';
comment on column tallystick.entries.columns_version is 'Version of the function that derived occurred_at, action and terms from the leaf.';
comment on column tallystick.entries.occurred_at is 'As the client sent it; null where it was not sent (it then reads as recorded_at).';

-- Values behind the commitments in leaves. May be deleted (the value is then erased), never changed.
create table tallystick.openings (
  seq bigint not null constraint openings_seq_not_negative check (seq >= 0),
  recorded_at timestamptz not null,
  tenant_id uuid not null,
  log_id integer not null,
  term bigint not null,
  salt bytea not null constraint openings_salt_size check (octet_length(salt) >= 16),
  pointer text not null,
  value text not null,
  constraint openings_pkey primary key (log_id, seq, pointer, recorded_at)
) partition by range (recorded_at);
create index openings_term on tallystick.openings (log_id, term, seq);
comment on column tallystick.openings.value is 'The JCS form of the value.';
comment on column tallystick.openings.term is 'First 4 bytes of SHA-256(log id 0x00 field 0x00 value): finds the entry while the opening exists.';

-- What has been recorded under which idempotency key. Weekly partitions, dropped when the window has passed:
-- random keys in one ever-growing unique index would slow down with its size.
create table tallystick.idempotency_keys (
  key uuid not null,
  recorded_at timestamptz not null,
  seq bigint not null,
  request_hash uuid not null,
  tenant_id uuid not null,
  log_id integer not null,
  constraint idempotency_keys_pkey primary key (key, recorded_at)
) partition by range (recorded_at);
comment on column tallystick.idempotency_keys.key is 'First 16 bytes of SHA-256(JCS([tenant id, service id, key])).';

create table tallystick.api_keys (
  id uuid constraint api_keys_pkey primary key default gen_random_uuid(),
  tenant_id uuid not null constraint api_keys_tenant_fkey references tallystick.tenants (id),
  name text not null constraint api_keys_name_size check (octet_length(name) between 1 and 1024),
  prefix text not null,
  secret_hash bytea not null constraint api_keys_secret_hash_key unique constraint api_keys_secret_hash_size check (octet_length(secret_hash) = 32),
  service_id text constraint api_keys_service_id_size check (octet_length(service_id) between 1 and 128),
  scopes text[] not null constraint api_keys_scopes_known check (cardinality(scopes) > 0 and scopes <@ array['write', 'read', 'stream', 'export', 'verify', 'admin']),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
comment on column tallystick.api_keys.secret_hash is 'SHA-256 of the whole key; the key itself has 160 random bits and is not kept.';
create index api_keys_tenant on tallystick.api_keys (tenant_id);
