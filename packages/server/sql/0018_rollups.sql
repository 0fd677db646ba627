-- Roll-ups: how many entries of a log have which value of a field, in each stretch of time (docs/decisions/0014). Derived from the leaves by the
-- worker that indexes them, in the transaction that does it, so that each entry is counted once.

-- The values that occur in a log, numbered from 1 in the order of their first entries.
create table tallystick.rollup_values (
  log_id integer not null,
  field text not null constraint rollup_values_field_known check (field in ('action', 'actor', 'resource_type', 'outcome', 'severity', 'service_id')),
  id integer not null constraint rollup_values_id_positive check (id > 0),
  tenant_id uuid not null,
  value text not null,
  constraint rollup_values_pkey primary key (log_id, field, id),
  constraint rollup_values_value_key unique (log_id, field, value)
);

-- A row for each stretch of time that has entries. recorded_at never decreases in a log: once an entry of a later stretch is counted, a row
-- is final, and those of quarter hours, hours, days and months are made only then, of finer ones. The newest minute is the only row that changes.
create table tallystick.rollups (
  log_id integer not null,
  level smallint not null constraint rollups_level_range check (level between 0 and 4),
  bucket timestamptz not null constraint rollups_bucket_range check (bucket >= '1970-01-01 00:00Z' and bucket < '5000-01-01 00:00Z'),
  tenant_id uuid not null,
  entries bigint not null constraint rollups_entries_not_negative check (entries >= 0),
  end_seq bigint not null constraint rollups_end_seq_range check (end_seq > 0 and end_seq < 1::bigint << 53),
  action bytea not null,
  actor bytea not null,
  resource_type bytea not null,
  outcome bytea not null,
  severity bytea not null,
  service_id bytea not null,
  constraint rollups_pkey primary key (log_id, level, bucket)
);
comment on column tallystick.rollups.level is '0: a minute, 1: a quarter of an hour, 2: an hour, 3: a day, 4: a month, each in UTC.';
comment on column tallystick.rollups.bucket is 'When the stretch begins. By recorded_at.';
comment on column tallystick.rollups.end_seq is 'The position behind the last entry that is counted; of the newest minute, how far the log is counted.';
comment on column tallystick.rollups.action is
  'Pairs of a value''s id, less the id before it, and its entries; each number as LEB128 (7 bits a byte, the lowest first). Id 0: entries without a value. tallystick.rollup_counts() unpacks it.';
-- Days and months of actors are long; what is packed already does not compress.
alter table tallystick.rollups alter column actor set storage external;

-- For people with psql: the pairs in a packed column.
create function tallystick.rollup_counts(packed bytea) returns table (id bigint, entries bigint)
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  number bigint := 0;
  shift integer := 0;
  is_id boolean := true;
  octet integer;
begin
  id := 0;
  for i in 0..length(packed) - 1 loop
    octet := get_byte(packed, i);
    number := number | ((octet & 127)::bigint << shift);
    shift := shift + 7;
    if octet < 128 then
      if is_id then
        id := id + number;
      else
        entries := number;
        return next;
      end if;
      is_id := not is_id;
      number := 0;
      shift := 0;
    end if;
  end loop;
end
$$;

do $$
declare
  relation text;
begin
  foreach relation in array array['rollup_values', 'rollups'] loop
    execute format('alter table tallystick.%I enable row level security', relation);
    execute format('create policy own_tenant on tallystick.%I for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy append on tallystick.%I for insert to tallystick_writer with check (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy audit on tallystick.%I for select to tallystick_auditor using (true)', relation);
    execute format('grant insert on tallystick.%I to tallystick_writer', relation);
    execute format('grant select on tallystick.%I to tallystick_reader, tallystick_auditor', relation);
  end loop;
end
$$;
create policy count_on on tallystick.rollups for update to tallystick_writer
  using (tenant_id = (select tallystick.current_tenant()) and level = 0)
  with check (tenant_id = (select tallystick.current_tenant()) and level = 0);
grant update (entries, end_seq, action, actor, resource_type, outcome, severity, service_id) on tallystick.rollups to tallystick_writer;

-- For owners: the worker counts the log again with its next full segment. Statistics count entry by entry until then.
create function tallystick.forget_rollups(log integer) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  delete from tallystick.rollups where log_id = log;
  delete from tallystick.rollup_values where log_id = log;
$$;
revoke all on function tallystick.forget_rollups(integer) from public;
