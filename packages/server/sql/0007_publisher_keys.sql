-- Publishers' public keys, and which services must sign. Every change is an entry of the tenant's log in the same transaction.

create table tallystick.services (
  tenant_id uuid not null constraint services_tenant_fkey references tallystick.tenants (id),
  service_id text not null constraint services_service_id_size check (octet_length(service_id) between 1 and 128),
  signed_only boolean not null,
  changed_at timestamptz not null,
  constraint services_pkey primary key (tenant_id, service_id)
);
comment on table tallystick.services is 'Services with a setting of their own. Events of one with signed_only are taken with a publisher''s signature only.';

create table tallystick.publisher_keys (
  id uuid constraint publisher_keys_pkey primary key default gen_random_uuid(),
  tenant_id uuid not null constraint publisher_keys_tenant_fkey references tallystick.tenants (id),
  service_id text not null constraint publisher_keys_service_id_size check (octet_length(service_id) between 1 and 128),
  version integer not null constraint publisher_keys_version_positive check (version > 0),
  algorithm text not null constraint publisher_keys_algorithm_known check (algorithm in ('ed25519', 'rsa-pss')),
  public_key_pem text not null constraint publisher_keys_public_key_pem_size check (octet_length(public_key_pem) <= 4096),
  valid_from timestamptz not null,
  valid_to timestamptz constraint publisher_keys_valid_to_finite check (isfinite(valid_to)),
  revoked_at timestamptz,
  created_at timestamptz not null,
  constraint publisher_keys_version_key unique (tenant_id, service_id, version),
  constraint publisher_keys_public_key_key unique (tenant_id, public_key_pem)
);
comment on table tallystick.publisher_keys is 'The key id is <service_id>:v<version>. Keys are never deleted: what they signed is verified by them for ever.';
comment on column tallystick.publisher_keys.public_key_pem is 'The one text for the key. Unique in a tenant: a revoked key does not come back under another id.';
comment on column tallystick.publisher_keys.valid_to is 'Exclusive; null: for good. Only ever comes nearer.';

-- A key's end may come nearer and it may be revoked once; nothing else about it ever changes.
create function tallystick.only_end_publisher_key() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (new.id, new.tenant_id, new.service_id, new.version, new.algorithm, new.public_key_pem, new.valid_from, new.created_at)
      is distinct from (old.id, old.tenant_id, old.service_id, old.version, old.algorithm, old.public_key_pem, old.valid_from, old.created_at)
    or coalesce(new.valid_to, 'infinity') > coalesce(old.valid_to, 'infinity')
    or (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at) then
    raise exception 'tallystick: % on %.% is refused', lower(tg_op), tg_table_schema, tg_table_name
      using errcode = 'insufficient_privilege', hint = 'A publisher key can be ended sooner or revoked, for good. See docs/publisher-keys.md.';
  end if;
  return new;
end
$$;
create trigger publisher_keys_only_end before update on tallystick.publisher_keys
  for each row execute function tallystick.only_end_publisher_key();
alter table tallystick.publisher_keys enable always trigger publisher_keys_only_end;
call tallystick.protect('tallystick.publisher_keys', 'delete or truncate');
-- Its rows do change; each change is an entry, with which verify compares them.
call tallystick.protect('tallystick.services', 'delete or truncate');

alter table tallystick.services enable row level security;
alter table tallystick.publisher_keys enable row level security;
do $$
declare
  relation text;
begin
  foreach relation in array array['services', 'publisher_keys'] loop
    execute format('create policy own_tenant on tallystick.%I for select to tallystick_reader, tallystick_writer using (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy append on tallystick.%I for insert to tallystick_writer with check (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy change_own on tallystick.%I for update to tallystick_writer using (tenant_id = (select tallystick.current_tenant())) with check (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy audit on tallystick.%I for select to tallystick_auditor using (true)', relation);
  end loop;
end
$$;
grant select, insert on tallystick.services, tallystick.publisher_keys to tallystick_writer;
grant update (signed_only, changed_at) on tallystick.services to tallystick_writer;
grant update (valid_to, revoked_at) on tallystick.publisher_keys to tallystick_writer;
grant select on tallystick.services, tallystick.publisher_keys to tallystick_reader, tallystick_auditor;

-- What a tenant's write path needs to know of its publishers: a row for each key, and one for each service that must sign.
create function tallystick.publishers_of(tenant uuid)
returns table (id uuid, service_id text, version integer, public_key_pem text, valid_from timestamptz, valid_to timestamptz, revoked_at timestamptz, signed_only boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select id, service_id, version, public_key_pem, valid_from, valid_to, revoked_at, false
  from tallystick.publisher_keys where tenant_id = tenant
  union all
  select null, service_id, null, null, null, null, null, true from tallystick.services where tenant_id = tenant and signed_only
$$;

-- Of these keys, those that may sign what is recorded now; to be asked with the log's lock held, under which keys are changed.
create function tallystick.valid_publisher_keys(keys uuid[])
returns table (id uuid, valid_from timestamptz, valid_to timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select id, valid_from, valid_to from tallystick.publisher_keys k where k.id = any (keys) and k.revoked_at is null
$$;

-- Of these services of these logs, those whose events are taken signed only; to be asked with the logs' locks held, under which the
-- setting is changed.
create function tallystick.signed_only_services(log_ids integer[], service_ids text[])
returns table (log_id integer, service_id text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select asked.log_id, asked.service_id
  from unnest(log_ids, service_ids) as asked (log_id, service_id)
  join tallystick.logs l on l.id = asked.log_id
  join tallystick.services s on s.tenant_id = l.tenant_id and s.service_id = asked.service_id and s.signed_only
$$;

-- Where a log's entries have these search terms, in any block of it: positions of the server's own entries, for a verification.
-- Positions only, and of the transaction's tenant; the rows are read under the policies of whoever asks.
create function tallystick.positions_of(log integer, below bigint, all_terms bigint[])
returns table (seq bigint, recorded_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.seq, e.recorded_at from tallystick.entries e
  where exists (select from tallystick.logs where id = log and tenant_id = tallystick.current_tenant())
    and e.log_id = log and e.seq < below and e.terms && array(
    select (block << 32) + term from generate_series(0, (below - 1) / 65536) block, unnest(all_terms) term)
  order by e.seq
$$;

revoke all on function tallystick.publishers_of(uuid), tallystick.valid_publisher_keys(uuid[]),
  tallystick.signed_only_services(integer[], text[]),
  tallystick.positions_of(integer, bigint, bigint[]) from public;
grant execute on function tallystick.publishers_of(uuid), tallystick.valid_publisher_keys(uuid[]),
  tallystick.signed_only_services(integer[], text[]) to tallystick_writer;
grant execute on function tallystick.positions_of(integer, bigint, bigint[]) to tallystick_reader, tallystick_auditor;

comment on column tallystick.idempotency_keys.key is 'First 16 bytes of a SHA-256 that begins with a secret made of the log key (src/log/replay-hash.ts): no guess at an erased value can be tried on it.';

-- What should protect the log and does not: a row for each trigger that is missing, another or not ENABLE ALWAYS, and for each table
-- with a tenant_id that has no row-level security. Empty when all is well.
create or replace function tallystick.enforcement_gaps() returns table (relation text, gap text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  with expected as (
    select c.oid, c.relname, c.relkind, p.relname as parent
    from pg_class c
    left join pg_inherits i on i.inhrelid = c.oid
    left join pg_class p on p.oid = i.inhparent
    where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p')
  ), refusing as (
    -- One of the same name that calls another function, or only under a condition, refuses nothing.
    select tgrelid, tgname, tgtype from pg_trigger
    where tgenabled = 'A' and tgqual is null and tgattr::text = '' and tgfoid = 'tallystick.refuse_change()'::regprocedure
  )
  select relname::text, 'the trigger ' || relname || '_append_only is missing, disabled or not ours'
  from expected
  where coalesce(parent, relname) in ('installation', 'tenants', 'logs', 'heads', 'service_heads', 'tiles', 'entries', 'openings',
      'log_keys', 'checkpoints', 'cosignatures', 'publisher_keys', 'services')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only'
      -- BEFORE, for each statement; TRUNCATE, and of UPDATE and DELETE what protect() was called for.
      and t.tgtype = 2 + 32 + case coalesce(parent, relname) when 'openings' then 16 when 'tenants' then 8 when 'publisher_keys' then 8 when 'services' then 8 else 16 + 8 end)
  union all
  select relname::text, 'the trigger ' || relname || '_append_only_row is missing, disabled or not ours'
  from expected
  where parent in ('entries', 'openings')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only_row'
      and t.tgtype = 1 + 2 + 16 + case parent when 'openings' then 0 else 8 end)
  union all
  -- SHA-256 of the body of refuse_change() above.
  select 'refuse_change()', 'the function was replaced'
  where not exists (
    select from pg_proc where oid = 'tallystick.refuse_change()'::regprocedure
      and sha256(convert_to(prosrc, 'UTF8')) = '\x932a94a69f19af2450dc93796c3fa0f438748b0126a8717810f48c3e1d3c1f47'
  )
  union all
  select 'publisher_keys', 'the trigger publisher_keys_only_end is missing, disabled or not ours'
  where not exists (
    select from pg_trigger where tgrelid = 'tallystick.publisher_keys'::regclass and tgname = 'publisher_keys_only_end'
      and tgenabled = 'A' and tgqual is null and tgattr::text = '' and tgtype = 1 + 2 + 16
      and tgfoid = 'tallystick.only_end_publisher_key()'::regprocedure
  )
  union all
  -- SHA-256 of the body of only_end_publisher_key() above.
  select 'only_end_publisher_key()', 'the function was replaced'
  where not exists (
    select from pg_proc where oid = 'tallystick.only_end_publisher_key()'::regprocedure
      and sha256(convert_to(prosrc, 'UTF8')) = '\x1c6c44b20cd07331899ffad85ebb335f5c72debf97b1c74914302e2becbabbd9'
  )
  union all
  select c.relname::text, 'a rule rewrites statements'
  from pg_class c join pg_rewrite r on r.ev_class = c.oid
  where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p')
  union all
  select c.relname::text, 'row-level security is off'
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
  where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity
  order by 1, 2
$$;
