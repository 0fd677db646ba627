-- The database itself refuses to change what is recorded, for everyone, owner and superuser included.

create function tallystick.refuse_change() returns trigger
language plpgsql as $$
begin
  raise exception 'tallystick: % on %.% is refused', lower(tg_op), tg_table_schema, tg_table_name
    using errcode = 'insufficient_privilege', hint = 'The log is append-only. See docs/enforcement.md.';
end
$$;
comment on function tallystick.refuse_change() is 'Trigger: refuses the statement. ENABLE ALWAYS, so that session_replication_role does not switch it off.';

-- Statement triggers refuse even a statement that matches no row. They fire only for the table that is named in the
-- statement, so that each partition has its own (tallystick.attach_partition).
create procedure tallystick.protect(relation regclass, operations text)
language plpgsql as $$
declare
  name text := (select relname from pg_class where oid = relation);
begin
  execute format('create trigger %I before %s on %s for each statement execute function tallystick.refuse_change()',
    name || '_append_only', operations, relation);
  execute format('alter table %s enable always trigger %I', relation, name || '_append_only');
end
$$;

call tallystick.protect('tallystick.installation', 'update or delete or truncate');
call tallystick.protect('tallystick.logs', 'update or delete or truncate');
call tallystick.protect('tallystick.heads', 'update or delete or truncate');
call tallystick.protect('tallystick.service_heads', 'update or delete or truncate');
call tallystick.protect('tallystick.tiles', 'update or delete or truncate');
call tallystick.protect('tallystick.entries', 'update or delete or truncate');
call tallystick.protect('tallystick.openings', 'update or truncate'); -- deleting one erases it, which is allowed
call tallystick.protect('tallystick.tenants', 'delete or truncate');

-- Makes one partition and attaches it. CREATE then ATTACH, because CREATE ... PARTITION OF waits for readers of the
-- parent while writers queue behind it. Neither triggers for TRUNCATE nor row-level security are inherited.
create function tallystick.attach_partition(parent regclass, name text, lower_bound timestamptz, upper_bound timestamptz)
returns boolean
language plpgsql set timezone = 'UTC' as $$
declare
  parent_name text := (select relname from pg_class where oid = parent);
begin
  if to_regclass(format('tallystick.%I', name)) is not null then
    return false;
  end if;
  execute format('create table tallystick.%I (like %s including defaults including constraints including storage)', name, parent);
  execute format('alter table tallystick.%I enable row level security', name);
  if parent_name = 'entries' then
    call tallystick.protect(format('tallystick.%I', name)::regclass, 'update or delete or truncate');
    execute format('create trigger %I before update or delete on tallystick.%I for each row execute function tallystick.refuse_change()', name || '_append_only_row', name);
    execute format('alter table tallystick.%I enable always trigger %I', name, name || '_append_only_row');
  elsif parent_name = 'openings' then
    call tallystick.protect(format('tallystick.%I', name)::regclass, 'update or truncate');
    execute format('create trigger %I before update on tallystick.%I for each row execute function tallystick.refuse_change()', name || '_append_only_row', name);
    execute format('alter table tallystick.%I enable always trigger %I', name, name || '_append_only_row');
  end if;
  execute format('alter table %s attach partition tallystick.%I for values from (%L) to (%L)', parent, name, lower_bound, upper_bound);
  return true;
end
$$;

-- Makes the partitions from the current one to `months` months ahead (1 to 24), those of idempotency keys two weeks ahead.
-- Returns the names of what it made. Safe to run at any time, by any number of servers.
create function tallystick.make_partitions(months integer) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' set lock_timeout = '2s' as $$
declare
  lower_bound timestamptz;
  name text;
begin
  if months not between 1 and 24 then
    raise exception 'tallystick: months must be from 1 to 24, not %', months using errcode = 'invalid_parameter_value';
  end if;
  -- One at a time. Not by an advisory lock: any role could take that one and keep it.
  lock table tallystick.installation in share row exclusive mode;
  for month in 0..months loop
    lower_bound := date_trunc('month', clock_timestamp()) + make_interval(months => month);
    name := 'entries_' || to_char(lower_bound, 'YYYY_MM');
    if tallystick.attach_partition('tallystick.entries', name, lower_bound, lower_bound + interval '1 month') then
      return next name;
    end if;
    name := 'openings_' || to_char(lower_bound, 'YYYY_MM');
    if tallystick.attach_partition('tallystick.openings', name, lower_bound, lower_bound + interval '1 month') then
      return next name;
    end if;
  end loop;
  -- A look-up of a key visits every week that may have it: only the next two are made ahead.
  for week in 0..2 loop
    lower_bound := date_trunc('week', clock_timestamp()) + make_interval(weeks => week);
    name := 'idempotency_keys_' || to_char(lower_bound, 'YYYY_MM_DD');
    if tallystick.attach_partition('tallystick.idempotency_keys', name, lower_bound, lower_bound + interval '1 week') then
      return next name;
    end if;
  end loop;
end
$$;

-- Drops the weeks of idempotency keys whose newest key is older than `key_window`. Returns what it dropped. Its own function,
-- because DROP waits for every reader of the table: where that takes too long, making partitions must not fail with it.
create function tallystick.drop_old_idempotency_keys(key_window interval) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' set lock_timeout = '2s' as $$
declare
  old name;
begin
  if key_window < interval '1 day' then
    raise exception 'tallystick: key_window must be at least a day, not %', key_window using errcode = 'invalid_parameter_value';
  end if;
  -- The name carries the lower bound, a week before the upper one.
  for old in
    select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = 'tallystick.idempotency_keys'::regclass
      and to_timestamp(right(relname, 10), 'YYYY_MM_DD') + interval '1 week' < clock_timestamp() - key_window
  loop
    execute format('drop table if exists tallystick.%I', old);
    return next old;
  end loop;
end
$$;
revoke all on function tallystick.make_partitions(integer), tallystick.drop_old_idempotency_keys(interval) from public;
revoke all on function tallystick.attach_partition(regclass, text, timestamptz, timestamptz) from public;
revoke all on procedure tallystick.protect(regclass, text) from public;
grant execute on function tallystick.make_partitions(integer), tallystick.drop_old_idempotency_keys(interval) to tallystick_writer;

-- What should protect the log and does not: a row for each trigger that is missing, another or not ENABLE ALWAYS, and for each table
-- with a tenant_id that has no row-level security. Empty when all is well.
create function tallystick.enforcement_gaps() returns table (relation text, gap text)
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
  where coalesce(parent, relname) in ('installation', 'tenants', 'logs', 'heads', 'service_heads', 'tiles', 'entries', 'openings')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only'
      -- BEFORE, for each statement; TRUNCATE, and of UPDATE and DELETE what protect() was called for.
      and t.tgtype = 2 + 32 + case coalesce(parent, relname) when 'openings' then 16 when 'tenants' then 8 else 16 + 8 end)
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
  select c.relname::text, 'a rule rewrites statements'
  from pg_class c join pg_rewrite r on r.ev_class = c.oid
  where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p')
  union all
  select c.relname::text, 'row-level security is off'
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
  where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity
  order by 1, 2
$$;
revoke all on function tallystick.enforcement_gaps() from public;
grant execute on function tallystick.enforcement_gaps() to tallystick_writer, tallystick_reader, tallystick_auditor;
