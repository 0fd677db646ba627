-- Who may do what: the functions of the write path, row-level security, grants.

-- The tenant of this transaction, set by set_config('tallystick.tenant_id', ..., true). Null (no row) where it is not set.
create function tallystick.current_tenant() returns uuid
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
  select nullif(current_setting('tallystick.tenant_id', true), '')::uuid
$$;

-- Locks the logs in id order, then reads the database's clock and each log's head: what an append starts from.
-- The clock is read in a statement after the lock's, or it would be the time before the wait. recorded_at never decreases.
-- Raises the transaction's synchronous_commit, so that no setting of a role or a database turns COMMIT into a promise.
create function tallystick.lock_logs(log_ids integer[])
returns table (log_id integer, tenant_id uuid, name text, size bigint, root bytea, recorded_at timestamptz, clock timestamptz)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  read_at timestamptz;
begin
  if current_setting('synchronous_commit') <> 'remote_apply' then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  perform from tallystick.logs l where l.id = any (log_ids) order by l.id for no key update;
  read_at := clock_timestamp();
  return query
    select l.id, l.tenant_id, l.name, h.size, h.root, greatest(h.recorded_at, read_at), read_at
    from tallystick.logs l
    cross join lateral (
      select size, root, recorded_at from tallystick.heads where heads.log_id = l.id order by size desc limit 1
    ) h
    where l.id = any (log_ids);
end
$$;

-- The newest entry of each service chain: a row for each pair that has one.
create function tallystick.service_heads_of(log_ids integer[], service_ids text[])
returns table (log_id integer, service_id text, seq bigint, leaf_hash bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select asked.log_id, asked.service_id, h.seq, h.leaf_hash
  from unnest(log_ids, service_ids) as asked (log_id, service_id)
  cross join lateral (
    select seq, leaf_hash from tallystick.service_heads s
    where s.log_id = asked.log_id and s.service_id = asked.service_id order by seq desc limit 1
  ) h
$$;

-- What was recorded under these keys since `since`: a row for each key that was used. LIMIT keeps one index look-up a key.
create function tallystick.recorded_keys(keys uuid[], since timestamptz)
returns table (key uuid, request_hash uuid, seq bigint, id uuid, recorded_at timestamptz, leaf_hash bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select asked.key, k.request_hash, k.seq, e.id, k.recorded_at, e.leaf_hash
  from unnest(keys) as asked (key)
  cross join lateral (
    select request_hash, seq, recorded_at, log_id from tallystick.idempotency_keys i
    where i.key = asked.key and i.recorded_at >= since
      and i.recorded_at <= now() + interval '1 day' -- leaves out the weeks that are only made ahead
    order by i.recorded_at desc limit 1
  ) k
  join tallystick.entries e on e.log_id = k.log_id and e.seq = k.seq and e.recorded_at = k.recorded_at
$$;

-- The right edge of a tree of `size` entries, for a server that has not got it in memory: at level 0 the leaf hashes since the
-- last full tile, above it the roots of the full tiles since the last full tile of that level.
create function tallystick.tree_edge(log integer, size bigint)
returns table (level smallint, index bigint, hash bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  -- The time of the first wanted entry's commit, so that no partition before it is read.
  with since as (
    select coalesce(min(recorded_at), '-infinity') as at from (
      select recorded_at from tallystick.heads h
      where h.log_id = log and h.size > (tree_edge.size / 256) * 256 order by h.size limit 1
    ) first
  )
  select 0::smallint, e.seq, e.leaf_hash from tallystick.entries e
  where e.log_id = log and e.seq >= (tree_edge.size / 256) * 256 and e.seq < tree_edge.size and e.recorded_at >= (select at from since)
  union all
  select (t.level + 1)::smallint, t.index, t.root from tallystick.tiles t
  where t.log_id = log
    and t.index >= (tree_edge.size / (256::numeric ^ (t.level + 2))::bigint) * 256
    and t.level < 6
$$;

-- Whether this very commit is in the database: settles a COMMIT whose answer was lost. The root covers every entry's random id.
create function tallystick.has_head(log integer, size bigint, root bytea) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from tallystick.heads h where h.log_id = log and h.size = has_head.size and h.root = has_head.root)
$$;

-- Finds an API key by the hash of its secret, whichever tenant it belongs to.
create function tallystick.find_api_key(hash bytea)
returns table (id uuid, tenant_id uuid, service_id text, scopes text[], expires_at timestamptz, revoked_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select id, tenant_id, service_id, scopes, expires_at, revoked_at from tallystick.api_keys where secret_hash = hash
$$;

revoke all on function tallystick.lock_logs(integer[]), tallystick.service_heads_of(integer[], text[]),
  tallystick.recorded_keys(uuid[], timestamptz), tallystick.tree_edge(integer, bigint),
  tallystick.has_head(integer, bigint, bytea), tallystick.find_api_key(bytea) from public;
grant execute on function tallystick.lock_logs(integer[]), tallystick.service_heads_of(integer[], text[]),
  tallystick.recorded_keys(uuid[], timestamptz), tallystick.tree_edge(integer, bigint),
  tallystick.has_head(integer, bigint, bytea), tallystick.find_api_key(bytea)
  to tallystick_writer;

-- The writer may insert for any tenant (one commit carries many) and read nothing but through the functions above and the
-- tenant that a transaction names. It has no UPDATE but of a tenant's name and status and of a key's revocation.
grant insert on tallystick.entries, tallystick.openings, tallystick.heads, tallystick.service_heads, tallystick.tiles,
  tallystick.idempotency_keys, tallystick.tenants, tallystick.logs, tallystick.api_keys, tallystick.installation to tallystick_writer;
grant update (name, status) on tallystick.tenants to tallystick_writer;
grant update (revoked_at) on tallystick.api_keys to tallystick_writer;
grant select on tallystick.entries, tallystick.openings, tallystick.heads, tallystick.service_heads, tallystick.tiles,
  tallystick.tenants, tallystick.logs, tallystick.installation to tallystick_reader;
grant select (id, tenant_id, name, prefix, service_id, scopes, created_at, expires_at, revoked_at) on tallystick.api_keys to tallystick_writer;
grant select on tallystick.entries, tallystick.openings, tallystick.heads, tallystick.service_heads, tallystick.tiles,
  tallystick.tenants, tallystick.logs, tallystick.installation to tallystick_auditor;
grant execute on function tallystick.current_tenant() to tallystick_writer, tallystick_reader, tallystick_auditor;

do $$
declare
  relation text;
begin
  foreach relation in array array['entries', 'openings', 'heads', 'service_heads', 'tiles', 'idempotency_keys', 'logs', 'api_keys'] loop
    execute format('alter table tallystick.%I enable row level security', relation);
    execute format('create policy own_tenant on tallystick.%I for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy append on tallystick.%I for insert to tallystick_writer with check (true)', relation);
    execute format('create policy audit on tallystick.%I for select to tallystick_auditor using (true)', relation);
  end loop;
end
$$;
create policy revoke_own on tallystick.api_keys for update to tallystick_writer
  using (tenant_id = (select tallystick.current_tenant()) and revoked_at is null)
  with check (tenant_id = (select tallystick.current_tenant()) and revoked_at is not null); -- for good

-- Finding the log of a tenant comes before any tenant is set; the names of tenants are the operator's to list.
create policy write_path on tallystick.logs for select to tallystick_writer using (true);
