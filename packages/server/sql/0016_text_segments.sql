-- Text search: what the words of 256 consecutive entries are, beside the log and behind it (docs/decisions/0012).

-- One row for each full 256 positions of a log, aligned as tiles are. Derived from the leaves alone, by a worker and not in the commit.
-- No foreign key to logs: it would lock the row that commits lock, and every row is derived again by each verification.
create table tallystick.text_segments (
  log_id integer not null,
  segment bigint not null constraint text_segments_segment_range check (segment >= 0 and segment < 1::bigint << 45),
  tenant_id uuid not null,
  version smallint not null,
  terms bigint[] not null,
  text text not null,
  constraint text_segments_pkey primary key (log_id, segment)
);
comment on table tallystick.text_segments is 'Rows are never changed. The newest one of a log is where indexing goes on: there is no other cursor.';
comment on column tallystick.text_segments.segment is 'Positions from segment * 256 on.';
comment on column tallystick.text_segments.version is 'Version of the function that derived terms and text from the leaves.';
comment on column tallystick.text_segments.terms is 'Number of the block of 4,096 segments << 32 | first 4 bytes of SHA-256(log id 0x00 kind 0x00 value): words, pairs of adjacent words, beginnings of words, members of metadata and changes.';
comment on column tallystick.text_segments.text is 'A line for each different value of these entries: its words between spaces, a tab, and which of the 256 have it, as in 0-3,17. Committed values are not there.';
-- Hashes do not compress, and of texts without repeats it would save a fifth of the space for 2 us an entry.
alter table tallystick.text_segments alter column terms set storage external, alter column text set storage external;
-- A pending list, or each term of each row would be a place in the index to go to, and 1,700 bytes of WAL an entry. Every search reads it: it is
-- kept short, and merged by the worker as soon as there is nothing else to do. No commit waits for that.
create index text_segments_terms on tallystick.text_segments using gin (terms) with (fastupdate = on, gin_pending_list_limit = 2048);

-- The same of the values behind commitments, while they have their openings. Deleted with the first of them, and made again of what is left.
create table tallystick.text_openings (
  log_id integer not null,
  segment bigint not null constraint text_openings_segment_range check (segment >= 0 and segment < 1::bigint << 45),
  tenant_id uuid not null,
  version smallint not null,
  terms bigint[] not null,
  text text not null,
  constraint text_openings_pkey primary key (log_id, segment)
);
comment on column tallystick.text_openings.terms is 'As of text_segments; and of addresses the ranges that they are in.';
comment on column tallystick.text_openings.text is 'Names and e-mail addresses, as in text_segments. Empty where there are none.';
alter table tallystick.text_openings alter column terms set storage external, alter column text set storage external;
create index text_openings_terms on tallystick.text_openings using gin (terms) with (fastupdate = on, gin_pending_list_limit = 2048);

-- Segments whose text_openings is to be made again. Only ever added to by those who erase, so that they wait for nobody; searches look at every
-- entry of such a segment.
create table tallystick.text_openings_due (
  id bigint generated always as identity constraint text_openings_due_pkey primary key,
  log_id integer not null,
  segment bigint not null,
  tenant_id uuid not null
);
create index text_openings_due_segment on tallystick.text_openings_due (log_id, segment);

-- The row is deleted at once; the worker hears of it by the queue, also where it is just making the row from what it read before. One that
-- another erasure is deleting is skipped: neither waits for the other, whatever the order in which they erase.
create function tallystick.forget_text() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into tallystick.text_openings_due (log_id, segment, tenant_id) values (old.log_id, old.seq >> 8, old.tenant_id);
  delete from tallystick.text_openings where ctid = any (array(
    select ctid from tallystick.text_openings where log_id = old.log_id and segment = old.seq >> 8 for update skip locked));
  return null;
end
$$;
revoke all on function tallystick.forget_text() from public;
create trigger openings_forget_text after delete on tallystick.openings for each row execute function tallystick.forget_text();
alter table tallystick.openings enable always trigger openings_forget_text;

call tallystick.protect('tallystick.text_segments', 'update or delete or truncate');
call tallystick.protect('tallystick.text_openings', 'update or truncate');

do $$
declare
  relation text;
begin
  foreach relation in array array['text_segments', 'text_openings', 'text_openings_due'] loop
    execute format('alter table tallystick.%I enable row level security', relation);
    execute format('create policy own_tenant on tallystick.%I for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()))', relation);
    execute format('create policy audit on tallystick.%I for select to tallystick_auditor using (true)', relation);
    execute format('grant select on tallystick.%I to tallystick_reader, tallystick_auditor', relation);
  end loop;
end
$$;
create policy append on tallystick.text_segments for insert to tallystick_writer with check (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.text_openings for insert to tallystick_writer with check (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.text_openings_due for insert to tallystick_writer with check (tenant_id = (select tallystick.current_tenant()));
create policy make_again on tallystick.text_openings for delete to tallystick_writer using (tenant_id = (select tallystick.current_tenant()));
create policy done on tallystick.text_openings_due for delete to tallystick_writer using (tenant_id = (select tallystick.current_tenant()));
grant insert on tallystick.text_segments, tallystick.text_openings, tallystick.text_openings_due to tallystick_writer;
grant delete on tallystick.text_openings, tallystick.text_openings_due to tallystick_writer;

-- How far each of these logs is indexed, of all logs where null: its size, the segments that there are, when the oldest full segment that is
-- not indexed became full, and whether openings are to be indexed again.
create function tallystick.index_progress(log_ids integer[])
returns table (log_id integer, tenant_id uuid, name text, size bigint, segments bigint, waiting_since timestamptz, due boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.id, l.tenant_id, l.name, h.size, i.segments,
    case when h.size >= (i.segments + 1) * 256
      then (select recorded_at from tallystick.heads f where f.log_id = l.id and f.size >= (i.segments + 1) * 256 order by f.size limit 1) end,
    exists (select from tallystick.text_openings_due d where d.log_id = l.id and d.segment < i.segments)
  from tallystick.logs l
  cross join lateral (select size from tallystick.heads where heads.log_id = l.id order by size desc limit 1) h
  cross join lateral (
    -- No further than the log goes, whatever rows somebody has put behind its end.
    select coalesce((select s.segment + 1 from tallystick.text_segments s where s.log_id = l.id and s.segment < h.size >> 8 order by s.segment desc limit 1), 0) as segments
  ) i
  where log_ids is null or l.id = any (log_ids)
$$;

-- Merges what the index on terms has not merged yet, so that searches need not read it.
create function tallystick.settle_text_index() returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select gin_clean_pending_list('tallystick.text_segments_terms'), gin_clean_pending_list('tallystick.text_openings_terms')
$$;

-- Segments of a log of the transaction's tenant that may have what is asked for, in [from_segment, to_segment), in log order or against it; at
-- most `wanted`. `clauses` is [{"any": [[term, ...], ...], "opened": boolean}, ...]: of each clause, a segment has all terms of one of the
-- lists; with `opened` its openings may have them instead. Terms are without the block. Hashes may collide, so that the caller looks at the text.
--
-- An owner function for the same reason as find_positions. A block of 4,096 segments (a million entries) is asked first and then more of
-- them at a time: what the nearest million has plenty of costs the same however long the log is.
create function tallystick.find_segments(
  log integer, from_segment bigint, to_segment bigint, newest_first boolean, wanted integer, clauses jsonb
)
returns table (segment bigint)
language plpgsql stable security definer rows 100
set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
#variable_conflict use_column
declare
  first_segment bigint := greatest(from_segment, 0);
  end_segment bigint := least(to_segment, (select s.segment + 1 from tallystick.text_segments s where s.log_id = log order by s.segment desc limit 1));
  remaining integer := wanted;
  blocks integer := 1;
  low bigint;
  high bigint;
  got integer;
  clause jsonb;
  condition text;
  plain text;
  sets text[];
  here constant text := ' and x.log_id + 0 = $1 and x.segment + 0 >= $2 and x.segment + 0 < $3';
begin
  if not exists (select from tallystick.logs where id = log and tenant_id = tallystick.current_tenant()) then
    return;
  end if;
  while remaining > 0 and first_segment < end_segment loop
    if newest_first then
      high := end_segment;
      low := greatest(first_segment, (((high - 1) >> 12) - blocks + 1) << 12);
      end_segment := low;
    else
      low := first_segment;
      high := least(end_segment, ((low >> 12) + blocks) << 12);
      first_segment := high;
    end if;
    plain := '';
    sets := '{}';
    for clause in select jsonb_array_elements(clauses) loop
      -- Of several blocks each term is another one in each, and a row has those of its own block only: any of them is the right one.
      select string_agg('(' || coalesce(conditions, 'true') || ')', ' or ') into condition
      from jsonb_array_elements(clause -> 'any') alternative,
        lateral (
          select string_agg(format('x.terms && %L::bigint[]', array(
            select (block << 32) | term::bigint from generate_series(low >> 12, (high - 1) >> 12) block)), ' and ') as conditions
          from jsonb_array_elements_text(alternative) term
        ) alternatives;
      if (clause ->> 'opened')::boolean then
        sets := sets || format('(select x.segment from tallystick.text_segments x where (%1$s)%2$s union select x.segment from tallystick.text_openings x where (%1$s)%2$s'
          ' union select x.segment from tallystick.text_openings_due x where x.log_id = $1 and x.segment >= $2 and x.segment < $3)', condition, here);
      else
        plain := plain || format(' and (%s)', condition);
      end if;
    end loop;
    if plain <> '' then
      sets := sets || format('(select x.segment from tallystick.text_segments x where true%s%s)', plain, here);
    end if;
    -- "+ 0" keeps the primary key out of this plan, which is to go by the terms.
    return query execute format('select segment from (%s) found order by segment %s limit $4',
      array_to_string(sets, ' intersect '), case when newest_first then 'desc' else 'asc' end)
      using log, low, high, remaining;
    get diagnostics got = row_count;
    remaining := remaining - got;
    blocks := least(blocks * 4, 16);
  end loop;
end
$$;

revoke all on function tallystick.index_progress(integer[]), tallystick.settle_text_index(), tallystick.find_segments(integer, bigint, bigint, boolean, integer, jsonb) from public;
grant execute on function tallystick.index_progress(integer[]), tallystick.settle_text_index() to tallystick_writer;
grant execute on function tallystick.index_progress(integer[]) to tallystick_auditor;
grant execute on function tallystick.find_segments(integer, bigint, bigint, boolean, integer, jsonb) to tallystick_reader;

create or replace function tallystick.enforcement_gaps() returns table (relation text, gap text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  with expected as (
    select c.oid, c.relname, c.relkind, p.relname as parent
    from pg_class c
    left join pg_inherits i on i.inhrelid = c.oid
    left join pg_class p on p.oid = i.inhparent
    where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p')
  ), tenanted as (
    select c.oid, c.relname, c.relrowsecurity from pg_class c
    where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p') and (c.relname = 'tenants'
      or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped))
  ), shown as (
    -- Policies of SELECT, or of all commands, for the reader or for everyone.
    select p.polrelid, p.polname, p.polpermissive, p.polqual from pg_policy p
    where p.polcmd in ('r', '*') and (0 = any (p.polroles) or to_regrole('tallystick_reader') = any (p.polroles))
  ), refusing as (
    -- One of the same name that calls another function, or only under a condition, refuses nothing.
    select tgrelid, tgname, tgtype from pg_trigger
    where tgenabled = 'A' and tgqual is null and tgattr::text = '' and tgfoid = 'tallystick.refuse_change()'::regprocedure
  )
  select relname::text, 'the trigger ' || relname || '_append_only is missing, disabled or not ours'
  from expected
  where coalesce(parent, relname) in ('installation', 'tenants', 'logs', 'heads', 'service_heads', 'tiles', 'entries', 'openings',
      'log_keys', 'checkpoints', 'cosignatures', 'publisher_keys', 'services', 'text_segments', 'text_openings')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only'
      -- BEFORE, for each statement; TRUNCATE, and of UPDATE and DELETE what protect() was called for.
      and t.tgtype = 2 + 32 + case coalesce(parent, relname) when 'openings' then 16 when 'text_openings' then 16 when 'tenants' then 8 when 'publisher_keys' then 8 when 'services' then 8 else 16 + 8 end)
  union all
  select relname::text, 'the trigger ' || relname || '_append_only_row is missing, disabled or not ours'
  from expected
  where parent in ('entries', 'openings')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only_row'
      and t.tgtype = 1 + 2 + 16 + case parent when 'openings' then 0 else 8 end)
  union all
  -- AFTER DELETE, for each row: what is erased would go on standing in text_openings.
  select relname::text, 'the trigger openings_forget_text is missing, disabled or not ours'
  from expected
  where coalesce(parent, relname) = 'openings'
    and not exists (
      select from pg_trigger t where t.tgrelid = expected.oid and t.tgname = 'openings_forget_text' and t.tgenabled = 'A' and t.tgqual is null
        and t.tgattr::text = '' and t.tgtype = 1 + 8 and t.tgfoid = 'tallystick.forget_text()'::regprocedure
    )
  union all
  -- SHA-256 of the body of forget_text() above.
  select 'forget_text()', 'the function was replaced'
  where not exists (
    select from pg_proc where oid = 'tallystick.forget_text()'::regprocedure
      and sha256(convert_to(prosrc, 'UTF8')) = '\xb55ec56581e877ea5f2ffd3872fb1c760d5b065dd263006e122387a6f06049cd'
  )
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
  select relname::text, 'row-level security is off' from tenanted where not relrowsecurity
  union all
  -- Without one, row-level security shows its readers nothing: a policy was dropped, and whoever mends that in haste may show too much.
  select relname::text, 'no policy says which tenant''s rows tallystick_reader sees'
  from tenanted where not exists (select from shown where polrelid = oid)
  union all
  -- Of several permissive policies the widest counts.
  select relname::text, 'the policy ' || polname || ' shows tallystick_reader rows of any tenant'
  from tenanted join shown on polrelid = oid where polpermissive and not coalesce(pg_get_expr(polqual, polrelid) like '%current_tenant()%', false)
  order by 1, 2
$$;
