-- The log key's public half, and what was signed with it.

create table tallystick.log_keys (
  singleton boolean constraint log_keys_pkey primary key default true constraint log_keys_singleton check (singleton),
  public_key bytea not null constraint log_keys_public_key_size check (octet_length(public_key) = 32),
  created_at timestamptz not null default clock_timestamp()
);
comment on table tallystick.log_keys is 'One row: the Ed25519 public key that every checkpoint of this installation verifies by. A server with another key refuses to start.';

-- Checkpoints that were published. Each is of a committed head, and the database makes sure of it.
create table tallystick.checkpoints (
  log_id integer not null,
  size bigint not null,
  tenant_id uuid not null,
  signed_at timestamptz not null default clock_timestamp(),
  root bytea not null constraint checkpoints_root_size check (octet_length(root) = 32),
  note text not null constraint checkpoints_note_size check (octet_length(note) <= 2048),
  constraint checkpoints_pkey primary key (log_id, size),
  constraint checkpoints_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id),
  constraint checkpoints_head_fkey foreign key (log_id, size) references tallystick.heads (log_id, size)
);
comment on column tallystick.checkpoints.note is 'The C2SP signed note by the log key, exactly as signed: origin, size, root, signature.';

call tallystick.protect('tallystick.log_keys', 'update or delete or truncate');
call tallystick.protect('tallystick.checkpoints', 'update or delete or truncate');

alter table tallystick.checkpoints enable row level security;
create policy own_tenant on tallystick.checkpoints for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.checkpoints for insert to tallystick_writer with check (true);
create policy audit on tallystick.checkpoints for select to tallystick_auditor using (true);
grant insert on tallystick.log_keys, tallystick.checkpoints to tallystick_writer;
grant select on tallystick.log_keys, tallystick.checkpoints to tallystick_reader, tallystick_auditor;

-- Logs that have grown beyond their newest published checkpoint, or have none.
create function tallystick.unpublished_logs()
returns table (log_id integer, tenant_id uuid, name text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.id, l.tenant_id, l.name
  from tallystick.logs l
  cross join lateral (select size from tallystick.heads where heads.log_id = l.id order by size desc limit 1) h
  left join lateral (select size from tallystick.checkpoints c where c.log_id = l.id order by size desc limit 1) c on true
  where not exists (select from tallystick.logs successor where successor.predecessor_id = l.id)
    and (c.size is null or c.size < h.size)
$$;

-- What the database says of logs that were signed at these sizes: its own root there, null where it has no head of that size.
create function tallystick.signed_logs(names text[], sizes bigint[])
returns table (name text, log_id integer, tenant_id uuid, current boolean, root bytea, newest_size bigint, newest_root bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select asked.name, l.id, l.tenant_id,
    l.id is not null and not exists (select from tallystick.logs successor where successor.predecessor_id = l.id),
    h.root, newest.size, newest.root
  from unnest(names, sizes) as asked (name, size)
  left join tallystick.logs l on l.name = asked.name
  left join tallystick.heads h on h.log_id = l.id and h.size = asked.size
  left join lateral (select size, root from tallystick.heads where heads.log_id = l.id order by size desc limit 1) newest on true
$$;

-- The newest published checkpoints of every log: some, because a row may be there that the server never signed.
create function tallystick.newest_checkpoints()
returns table (name text, size bigint, root bytea, note text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.name, c.size, c.root, c.note from tallystick.logs l
  cross join lateral (select size, root, note from tallystick.checkpoints where log_id = l.id order by size desc limit 20) c
  order by l.name, c.size desc
$$;

revoke all on function tallystick.unpublished_logs(), tallystick.signed_logs(text[], bigint[]),
  tallystick.newest_checkpoints() from public;
grant execute on function tallystick.unpublished_logs(), tallystick.signed_logs(text[], bigint[]),
  tallystick.newest_checkpoints() to tallystick_writer;

-- Locks the logs in id order, then reads the database's clock and each log's head: what an append starts from.
-- A log that has a successor is closed: it is locked, and there is no row for it.
-- The clock is read in a statement after the lock's, or it would be the time before the wait. recorded_at never decreases.
-- Raises the transaction's synchronous_commit, so that no setting of a role or a database turns COMMIT into a promise.
create or replace function tallystick.lock_logs(log_ids integer[])
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
    where l.id = any (log_ids)
      and not exists (select from tallystick.logs successor where successor.predecessor_id = l.id);
end
$$;
