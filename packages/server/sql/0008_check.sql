-- For an auditor with nothing but psql: functions that recheck a log, and the state of verifications that run as jobs.
--
-- Each check_ function returns a row for everything that is wrong, and none where nothing was found wrong: `stored` is what the
-- database holds, `expected` what the leaves say, `next` a statement that shows more. They run with the rights of who calls
-- them, see one snapshot, and read entries in the order of the log, so that memory does not grow with it. They are part of the
-- database that they check: docs/auditor.md says how to check them, and what none of them can prove.

-- The log of this name, slug or id, or the newest of the tenant of this id; in this order where a text is more than one of them.
create function tallystick.check_named(log text)
returns table (log_id integer, tenant_id uuid, name text, slug text, tenant text, size bigint)
language plpgsql stable rows 1 set search_path = pg_catalog, pg_temp as $$
begin
  return query
    select l.id, l.tenant_id, l.name, l.slug, coalesce(t.slug, l.tenant_id::text),
      coalesce((select max(h.size) from tallystick.heads h where h.log_id = l.id), 0)
    from tallystick.logs l left join tallystick.tenants t on t.id = l.tenant_id
    where check_named.log in (l.name, l.slug, l.id::text, t.slug, l.tenant_id::text)
    order by l.name = check_named.log desc, l.slug = check_named.log desc, l.id::text = check_named.log desc, l.id desc
    limit 1;
  if not found then
    raise exception 'tallystick: there is no log and no tenant "%": nothing was checked', log
      using errcode = 'no_data_found', hint = 'select id, slug, name from tallystick.logs;';
  end if;
end
$$;

-- RFC 3339 in UTC with six digits of fraction, as leaves have it; a time that RFC 3339 cannot name as PostgreSQL writes it.
create function tallystick.rfc3339(at timestamptz) returns text
language sql stable as $$
  select case when at >= '0001-01-01 00:00:00+00' and at < '10000-01-01 00:00:00+00'
    then to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') else (at at time zone 'UTC')::text end
$$;

-- A leaf as JSON; null where it is no JSON, or lacks a member that every leaf has.
create function tallystick.leaf_json(leaf text) returns jsonb
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  json jsonb;
begin
  json := leaf::jsonb;
  if json @? 'strict $ ? (@.v.type() == "number" && @.log.type() == "string" && @.id.type() == "string"
      && @.recorded_at.type() == "string" && @.event.type() == "object" && @.service.id.type() == "string" && @.service.prev.type() == "string"
      && @.seq >= 0 && @.seq <= 9007199254740991 && @.seq.floor() == @.seq
      && @.service.seq >= 0 && @.service.seq <= 9007199254740991 && @.service.seq.floor() == @.service.seq)' then
    return json;
  end if;
  return null;
exception when data_exception or statement_too_complex then
  return null;
end
$$;

-- The terms of an entry, in the order in which they are derived (deriveColumns in src/log/columns.ts): each once, defaults none.
create function tallystick.leaf_terms(log_id integer, leaf jsonb, seq bigint) returns bigint[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(term order by place), '{}')
  from (
    select tallystick.term(log_id, field, value, seq) as term, min(place) as place
    from (
      select place::numeric, field, value
      from (select leaf -> 'event' as event) e
      cross join lateral (values
        (1, 'action', event ->> 'action'),
        (2, 'actor_id', event #>> '{actor,id}'),
        (3, 'actor_type', nullif(event #>> '{actor,type}', 'user')),
        (4, 'on_behalf_of_id', event #>> '{actor,on_behalf_of,id}'),
        (5, 'on_behalf_of_id', event #>> '{actor,on_behalf_of,on_behalf_of,id}'),
        (6, 'on_behalf_of_id', event #>> '{actor,on_behalf_of,on_behalf_of,on_behalf_of,id}'),
        (7, 'on_behalf_of_id', event #>> '{actor,on_behalf_of,on_behalf_of,on_behalf_of,on_behalf_of,id}'),
        (8, 'resource_type', event #>> '{resource,type}'),
        (9, 'resource_id', event #>> '{resource,id}'),
        (11, 'outcome', nullif(event ->> 'outcome', 'success')),
        (12, 'severity', nullif(event ->> 'severity', 'INFO')),
        (13, 'operation', event ->> 'operation'),
        (14, 'event_type', event ->> 'event_type'),
        (15, 'service_id', leaf #>> '{service,id}'),
        (16, 'request_id', event #>> '{context,request_id}'),
        (17, 'session_id', event #>> '{context,session_id}'),
        (18, 'trace_id', event #>> '{context,trace_id}')
      ) as fields (place, field, value)
      union all
      -- Between the resource and the outcome.
      select 10 + (2 * number + part) / 1000.0, field, value
      from jsonb_array_elements(case when jsonb_typeof(leaf #> '{event,related}') = 'array' then leaf #> '{event,related}' end)
        with ordinality as related (resource, number)
      cross join lateral (values (0, 'resource_type', resource ->> 'type'), (1, 'resource_id', resource ->> 'id')) as parts (part, field, value)
    ) fields
    where value is not null
    group by 1
  ) terms
$$;

-- HMAC-SHA256 (RFC 2104) with nothing but PostgreSQL's own functions: a bytea has no XOR, a bigint does.
create function tallystick.hmac_sha256(key bytea, message bytea) returns bytea
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
  select sha256(outer_pad || sha256(inner_pad || message))
  from (
    select string_agg(int8send(word # x'3636363636363636'::bigint), '' order by at) as inner_pad,
      string_agg(int8send(word # x'5c5c5c5c5c5c5c5c'::bigint), '' order by at) as outer_pad
    from (
      select at, ('x' || rpad(substring(encode(case when octet_length(key) > 64 then sha256(key) else key end, 'hex') from at for 16), 16, '0'))::bit(64)::bigint as word
      from generate_series(1, 113, 16) at
    ) words
  ) pads
$$;

-- The commitment that stands at a JSON pointer (RFC 6901) of a leaf; null where there is none.
create function tallystick.commitment_at(leaf jsonb, pointer text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp as $$
  select case when jsonb_typeof(leaf #> path -> '$committed') = 'string' then leaf #> path ->> '$committed' end
  from (
    select array_agg(replace(replace(token, '~1', '/'), '~0', '~') order by number) as path
    from unnest(string_to_array(substring(pointer from 2), '/')) with ordinality as tokens (token, number)
  ) p
$$;

-- Values that would fill the screen.
create function tallystick.shortened(value text) returns text
language sql immutable parallel safe as $$
  select case when length(value) <= 300 then value else left(value, 300) || '...' end
$$;

-- Each entry's leaf_hash against its leaf; positions without a gap or a repeat from 0 to the newest head's size; times that never
-- decrease. Positions [from_seq, to_seq) alone, where they are given.
create function tallystick.check_leaf_hashes(log text, from_seq bigint default 0, to_seq bigint default null)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_sort = off as $$
#variable_conflict use_column
declare
  named record;
  entry record;
  due bigint := greatest(from_seq, 0);
  last bigint;
  earlier timestamptz := '-infinity'; -- of the row before
  show constant text := 'select seq, id, recorded_at, leaf_hash, leaf from tallystick.entries where log_id = %s and seq = %s;';
begin
  select * into strict named from tallystick.check_named(log);
  tenant := named.tenant;
  for entry in
    select e.seq, e.id, e.recorded_at, e.leaf_hash, sha256('\x00'::bytea || convert_to(e.leaf, 'UTF8')) as computed
    from tallystick.entries e
    where e.log_id = named.log_id and e.seq >= due and (to_seq is null or e.seq < to_seq)
    order by e.seq, e.recorded_at
  loop
    seq := entry.seq;
    id := entry.id;
    next := format(show, named.log_id, entry.seq);
    if entry.seq > due then
      field := 'seq';
      stored := null;
      expected := due;
      detail := format('%s entries of "%s" are missing: %s to %s', entry.seq - due, named.name, due, entry.seq - 1);
      seq := due;
      id := null;
      next := format('select * from tallystick.tiles where log_id = %s and level = 0 and index = %s;', named.log_id, due / 256);
      return next;
      seq := entry.seq;
      id := entry.id;
      next := format(show, named.log_id, entry.seq);
    elsif entry.seq < due then
      field := 'seq';
      stored := entry.seq;
      expected := null;
      detail := format('there is another row for position %s of "%s" (recorded_at %s)', entry.seq, named.name, tallystick.rfc3339(entry.recorded_at));
      return next;
      continue;
    end if;
    due := entry.seq + 1;
    if entry.leaf_hash is distinct from entry.computed then
      field := 'leaf_hash';
      stored := encode(entry.leaf_hash, 'hex');
      expected := encode(entry.computed, 'hex');
      detail := format('leaf_hash of entry %s of "%s" is not the hash of its leaf: one of them was changed; check_tree tells which', entry.seq, named.name);
      return next;
    end if;
    if entry.recorded_at < earlier then
      field := 'recorded_at';
      stored := tallystick.rfc3339(entry.recorded_at);
      expected := tallystick.rfc3339(earlier);
      detail := format('entry %s of "%s" has a time before that of the entry before it', entry.seq, named.name);
      return next;
    end if;
    earlier := entry.recorded_at;
    if entry.seq >= named.size then
      field := 'seq';
      stored := entry.seq;
      expected := null;
      detail := format('entry %s lies beyond the newest head of "%s", of size %s: it was put there, or its head was removed', entry.seq, named.name, named.size);
      return next;
    end if;
  end loop;
  last := least(coalesce(to_seq, named.size), named.size);
  if due < last then
    seq := due;
    id := null;
    field := 'seq';
    stored := null;
    expected := due;
    detail := format('%s entries of "%s" are missing: %s to %s', last - due, named.name, due, last - 1);
    next := format('select * from tallystick.tiles where log_id = %s and level = 0 and index = %s;', named.log_id, due / 256);
    return next;
  end if;
end
$$;

-- Each service's chain: numbers from 0 without a gap or a repeat, each entry naming the hash of the one before it, and
-- service_heads that are its entries, the newest among them. Sorts what it reads of leaves by service, on disk where it is much.
create function tallystick.check_service_chains(log text, service text default null)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
  named record;
begin
  select * into strict named from tallystick.check_named(log);
  if service is not null and not exists (
    select from tallystick.service_heads h where h.log_id = named.log_id and h.service_id = service
  ) and not exists (
    select from tallystick.entries e where e.log_id = named.log_id and tallystick.leaf_json(e.leaf) #>> '{service,id}' = service
  ) then
    raise exception 'tallystick: "%" has no entry of a service "%": nothing was checked', named.name, service
      using errcode = 'no_data_found', hint = format('select distinct service_id from tallystick.service_heads where log_id = %s;', named.log_id);
  end if;
  return query
    with members as (
      select e.seq, e.recorded_at, e.id, e.leaf_hash,
        read.json #>> '{service,id}' as service_id, (read.json #>> '{service,seq}')::bigint as number, read.json #>> '{service,prev}' as prev
      from tallystick.entries e cross join lateral (select tallystick.leaf_json(e.leaf) as json offset 0) read
      where e.log_id = named.log_id and e.seq < named.size
    ), links as (
      select m.*,
        coalesce(lag(m.number) over chain + 1, 0) as expected_number,
        coalesce(encode(lag(m.leaf_hash) over chain, 'hex'), repeat('0', 64)) as expected_prev,
        lead(m.seq) over chain is null as newest
      from members m where m.service_id is not null and (service is null or m.service_id = service)
      window chain as (partition by m.service_id order by m.seq, m.recorded_at)
    ), compared as (
      select l.seq, l.id, l.leaf_hash, coalesce(l.service_id, h.service_id) as service_id, coalesce(l.number, h.seq) as number, l.prev,
        l.expected_number, l.expected_prev, h.leaf_hash as head_hash, h.tenant_id as head_tenant,
        l.number <> l.expected_number as misnumbered,
        l.number = l.expected_number and l.prev <> l.expected_prev as misled,
        l.newest and h.seq is null as unheaded,
        h.leaf_hash <> l.leaf_hash as misheaded,
        h.tenant_id <> named.tenant_id as misfiled,
        l.seq is null as without_entry
      from links l
      full join (
        select * from tallystick.service_heads s where s.log_id = named.log_id and (service is null or s.service_id = service)
      ) h on h.service_id = l.service_id and h.seq = l.number
    )
    select named.tenant, c.seq, c.id, problem.field, problem.stored, problem.expected, problem.detail,
      case when c.seq is null or problem.at_head
        then format('select * from tallystick.service_heads where log_id = %s and service_id = %L and seq = %s;', named.log_id, c.service_id, c.number)
        else format('select * from tallystick.check_leaf_hashes(%L, %s, %s);', named.name, greatest(c.seq - 1000, 0), c.seq + 1) end
    from compared c
    cross join lateral (values
      (c.misnumbered, false, 'service.seq', c.number::text, c.expected_number::text,
        format('entry %s of "%s" breaks the chain of "%s": entries of it are missing before this one, or a number is repeated', c.seq, named.name, c.service_id)),
      (c.misled, false, 'service.prev', c.prev, c.expected_prev,
        format('entry %s of "%s" is chained to another hash than that of the entry of "%s" before it', c.seq, named.name, c.service_id)),
      (c.unheaded, true, 'service_heads', null, encode(c.leaf_hash, 'hex'),
        format('the head of the chain of "%s" at its newest number %s is missing', c.service_id, c.number)),
      (c.misheaded, true, 'service_heads.leaf_hash', encode(c.head_hash, 'hex'), encode(c.leaf_hash, 'hex'),
        format('the head of the chain of "%s" at its number %s has another hash than entry %s', c.service_id, c.number, c.seq)),
      (c.misfiled, true, 'service_heads.tenant_id', c.head_tenant::text, named.tenant_id::text,
        format('the head of the chain of "%s" at its number %s is filed under another tenant than its log', c.service_id, c.number)),
      (c.without_entry, true, 'service_heads', encode(c.head_hash, 'hex'), null,
        format('there is a head of the chain of "%s" at its number %s, and no such entry', c.service_id, c.number))
    ) as problem (wrong, at_head, field, stored, expected, detail)
    where (c.misnumbered or c.misled or c.unheaded or c.misheaded or c.misfiled or c.without_entry) and problem.wrong
    order by c.seq nulls first, c.service_id, c.number, problem.field;
end
$$;

-- The tree (RFC 6962) recomputed from leaf_hash of all entries: every head's root and time, every kept tile; and published
-- checkpoints against the heads that they are of. Their signatures PostgreSQL cannot check.
create function tallystick.check_tree(log text)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_sort = off as $$
#variable_conflict use_column
declare
  max_heads constant integer := 10;
  named record;
  entry record;
  tile record;
  stack bytea[] := '{}'; -- by level, from 1: the left one of two subtrees, where the size has that bit
  tiles bytea[] := array[''::bytea, '', '', '', '', '', '']; -- by level of tiles, from 1: the hashes of the one that is growing
  node bytea;
  root bytea;
  height integer;
  place bigint;
  size bigint := 0;
  wrong_heads bigint := 0;
  unheaded_since timestamptz; -- of entries behind the last head
begin
  select * into strict named from tallystick.check_named(log);
  tenant := named.tenant;
  return query
    select named.tenant, null::bigint, null::uuid, 'heads.root', encode(h.root, 'hex'), encode(sha256(''), 'hex'),
      case when h.root is null then format('the head of size 0 of "%s", which is made with the log, is missing', named.name)
        else format('the root of the head of size 0 of "%s" is not that of an empty log', named.name) end,
      format('select * from tallystick.heads where log_id = %s order by size limit 10;', named.log_id)
    from (select) one left join tallystick.heads h on h.log_id = named.log_id and h.size = 0
    where h.root is distinct from sha256('');
  for entry in
    select e.seq, e.id, e.recorded_at, e.leaf_hash, h.root, h.recorded_at as head_time, h.tenant_id as head_tenant
    from tallystick.entries e left join tallystick.heads h on h.log_id = e.log_id and h.size = e.seq + 1
    where e.log_id = named.log_id and e.seq < named.size
    order by e.seq, e.recorded_at
  loop
    continue when entry.seq < size; -- a second row for a position: check_leaf_hashes names it
    exit when entry.seq > size;
    seq := entry.seq;
    id := entry.id;
    node := entry.leaf_hash;
    tiles[1] := tiles[1] || node;
    height := 0;
    place := size;
    while place & 1 = 1 loop
      node := sha256('\x01'::bytea || stack[height + 1] || node);
      height := height + 1;
      place := place >> 1;
      if height % 8 = 0 then
        -- `node` is the root of a full tile, and the next hash of the tile above it.
        select t.root, t.data, t.tenant_id into tile from tallystick.tiles t
        where t.log_id = named.log_id and t.level = height / 8 - 1 and t.index = place;
        if tile.root is distinct from node or tile.data is distinct from tiles[height / 8] or tile.tenant_id <> named.tenant_id then
          return query
            select named.tenant, case when height = 8 then place * 256 + wrong.number end, null::uuid,
              wrong.field, wrong.stored, wrong.expected, wrong.detail,
              format('select level, index, root from tallystick.tiles where log_id = %s and level = %s and index = %s;', named.log_id, height / 8 - 1, place)
            from (
              select number, 'tiles.data' as field, encode(substring(tile.data from 32 * number + 1 for 32), 'hex') as stored,
                encode(substring(tiles[height / 8] from 32 * number + 1 for 32), 'hex') as expected,
                format('tile %s/%s of "%s" has another hash at its place %s than the entries give: a leaf with its leaf_hash was changed, or the tile',
                  height / 8 - 1, place, named.name, number) as detail
              from generate_series(0, 255) number where tile.data is not null
              union all
              select null, 'tiles.root', encode(tile.root, 'hex'), encode(node, 'hex'),
                format('the root of tile %s/%s of "%s" is not that of the entries', height / 8 - 1, place, named.name) where tile.root is not null
              union all
              select null, 'tiles.tenant_id', tile.tenant_id::text, named.tenant_id::text,
                format('tile %s/%s of "%s" is filed under another tenant than its log', height / 8 - 1, place, named.name) where tile.root is not null
              union all
              select null, 'tiles', null, encode(node, 'hex'), format('tile %s/%s of "%s" is missing', height / 8 - 1, place, named.name) where tile.root is null
            ) wrong
            where wrong.stored is distinct from wrong.expected;
        end if;
        tiles[height / 8] := '';
        tiles[height / 8 + 1] := tiles[height / 8 + 1] || node;
      end if;
    end loop;
    stack[height + 1] := node;
    size := size + 1;

    if unheaded_since <> entry.recorded_at then
      field := 'heads.size';
      stored := null;
      expected := entry.seq;
      detail := format('the head of size %s of "%s", recorded at %s with the entry before this one, is missing', entry.seq, named.name, tallystick.rfc3339(unheaded_since));
      next := format('select * from tallystick.heads where log_id = %s and size between %s and %s;', named.log_id, entry.seq - 10, entry.seq + 10);
      return next;
    end if;
    unheaded_since := entry.recorded_at;
    continue when entry.root is null;
    unheaded_since := null;
    root := null;
    for level in 0..62 loop
      exit when size >> level = 0;
      continue when (size >> level) & 1 = 0;
      root := case when root is null then stack[level + 1] else sha256('\x01'::bytea || stack[level + 1] || root) end;
    end loop;
    next := format('select * from tallystick.heads where log_id = %s and size = %s;', named.log_id, size);
    if entry.root <> root then
      wrong_heads := wrong_heads + 1;
      if wrong_heads <= max_heads or size = named.size then
        field := 'heads.root';
        stored := encode(entry.root, 'hex');
        expected := encode(root, 'hex');
        detail := format('the root of the head of size %s of "%s" is not that of the entries before it: it, or an entry before it, was changed', size, named.name);
        return next;
      end if;
    end if;
    if entry.head_time <> entry.recorded_at then
      field := 'heads.recorded_at';
      stored := tallystick.rfc3339(entry.head_time);
      expected := tallystick.rfc3339(entry.recorded_at);
      detail := format('the head of size %s of "%s" has another time than the entries of its commit', size, named.name);
      return next;
    end if;
    if entry.head_tenant <> named.tenant_id then
      field := 'heads.tenant_id';
      stored := entry.head_tenant;
      expected := named.tenant_id;
      detail := format('the head of size %s of "%s" is filed under another tenant than its log', size, named.name);
      return next;
    end if;
  end loop;
  id := null;
  if wrong_heads > max_heads then
    seq := null;
    field := 'heads.root';
    stored := null;
    expected := null;
    detail := format('%s heads of "%s" have roots that the entries do not give; the first %s and the newest are listed', wrong_heads, named.name, max_heads);
    next := format('select * from tallystick.check_leaf_hashes(%L);', named.name);
    return next;
  end if;
  if size < named.size then
    seq := size;
    field := 'heads.root';
    stored := (select encode(h.root, 'hex') from tallystick.heads h where h.log_id = named.log_id and h.size = named.size);
    expected := null;
    detail := format('the tree of "%s" cannot be recomputed up to its newest head, of size %s: entry %s is missing', named.name, named.size, size);
    next := format('select * from tallystick.check_leaf_hashes(%L);', named.name);
    return next;
  end if;
  return query
    select named.tenant, c.size - 1, null::uuid, wrong.field, wrong.stored, wrong.expected,
      format('the checkpoint of size %s of "%s" is not of the head of that size: who has it was shown another log', c.size, named.name),
      format('select * from tallystick.checkpoints where log_id = %s and size = %s;', named.log_id, c.size)
    from tallystick.checkpoints c
    left join tallystick.heads h on h.log_id = c.log_id and h.size = c.size
    cross join lateral (select format(E'%s\n%s\n%s\n\n', named.name, c.size, encode(h.root, 'base64')) as text offset 0) signed
    cross join lateral (values
      ('checkpoints.root', encode(c.root, 'hex'), encode(h.root, 'hex'), c.root is distinct from h.root),
      ('checkpoints.note', split_part(c.note, E'\n\n', 1), rtrim(signed.text, E'\n'), c.root = h.root and not starts_with(c.note, signed.text))
    ) as wrong (field, stored, expected, is_wrong)
    where c.log_id = named.log_id and c.size <= named.size and wrong.is_wrong;
  return query
    select named.tenant, s.size - 1, null::uuid, 'cosignatures.line', s.line, null,
      format('the cosignature of the checkpoint of size %s of "%s" is no signature line by %s: the checkpoint cannot be read with it', s.size, named.name, s.witness),
      format('select * from tallystick.cosignatures where log_id = %s and size = %s;', named.log_id, s.size)
    from tallystick.cosignatures s
    where s.log_id = named.log_id and (not tallystick.is_signature_line(s.line, s.witness) or split_part(s.line, ' ', 2) = named.name);
  return query
    select named.tenant, null::bigint, null::uuid, 'tiles', format('%s/%s', t.level, t.index), null,
      format('tile %s/%s is beyond the end of "%s"', t.level, t.index, named.name),
      format('select level, index, root from tallystick.tiles where log_id = %s and level = %s order by index desc limit 10;', named.log_id, t.level)
    from generate_series(0, 6) levels (level)
    join tallystick.tiles t on t.log_id = named.log_id and t.level = levels.level and t.index >= div(named.size::numeric, 256::numeric ^ (levels.level + 1));
end
$$;

-- The columns beside each leaf, derived from it again. Positions [from_seq, to_seq) alone, where they are given.
create function tallystick.check_columns(log text, from_seq bigint default 0, to_seq bigint default null)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_sort = off as $$
#variable_conflict use_column
declare
  named record;
begin
  select * into strict named from tallystick.check_named(log);
  return query
    select named.tenant, e.seq, e.id, problem.field, tallystick.shortened(problem.stored), tallystick.shortened(problem.expected),
      case problem.field
        when 'leaf' then format('the leaf of entry %s of "%s" is no JSON, or lacks a member that every leaf has', e.seq, named.name)
        when 'log' then format('the leaf of entry %s of "%s" belongs to another log', e.seq, named.name)
        when 'columns_version' then format('the columns of entry %s of "%s" were derived by a version that this function does not know: they were not checked', e.seq, named.name)
        else format('%s of entry %s of "%s" is not what its leaf says', problem.field, e.seq, named.name)
      end,
      format('select * from tallystick.entries where log_id = %s and seq = %s;', named.log_id, e.seq)
    from (
      -- The place that a leaf names, then what was derived of its event; OFFSET keeps each from being evaluated more than once.
      select placed.*, placed.known and placed.columns_version = 1 as derived
      from (
        select r.*, r.json is not null and r.json -> 'v' = '1' as known, tallystick.rfc3339(r.recorded_at) as recorded
        from (
          select en.seq, en.recorded_at, en.occurred_at, en.tenant_id, en.id, en.columns_version, en.terms, en.action, en.leaf,
            tallystick.leaf_json(en.leaf) as json
          from tallystick.entries en
          where en.log_id = named.log_id and en.seq >= from_seq and (to_seq is null or en.seq < to_seq)
          order by en.seq, en.recorded_at offset 0
        ) r offset 0
      ) placed
    ) e
    cross join lateral (
      select case when e.derived then tallystick.leaf_terms(named.log_id, e.json, e.seq) end as terms,
        case when e.occurred_at is not null then tallystick.rfc3339(e.occurred_at) end as occurred offset 0
    ) made
    cross join lateral (values
      ('leaf', e.json is null, e.leaf, null),
      ('tenant_id', e.tenant_id <> named.tenant_id, e.tenant_id::text, named.tenant_id::text),
      ('log', e.known and e.json ->> 'log' <> named.name, e.json ->> 'log', named.name),
      ('seq', e.known and (e.json ->> 'seq')::bigint <> e.seq, e.seq::text, e.json ->> 'seq'),
      ('id', e.known and e.json ->> 'id' <> e.id::text, e.id::text, e.json ->> 'id'),
      ('recorded_at', e.known and e.json ->> 'recorded_at' <> e.recorded, e.recorded, e.json ->> 'recorded_at'),
      ('columns_version', e.known and e.columns_version <> 1, e.columns_version::text, '1'),
      ('occurred_at', e.derived and e.json #>> '{event,occurred_at}' is distinct from made.occurred, made.occurred, e.json #>> '{event,occurred_at}'),
      ('action', e.derived and e.json #>> '{event,action}' is distinct from e.action, e.action, e.json #>> '{event,action}'),
      ('terms', e.derived and made.terms is distinct from e.terms, e.terms::text, made.terms::text)
    ) as problem (field, wrong, stored, expected)
    where problem.wrong;
end
$$;

-- Each opening against the commitment in its entry's leaf. A commitment without an opening is an erased value, and no problem.
create function tallystick.check_openings(log text)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_sort = off as $$
#variable_conflict use_column
declare
  named record;
begin
  select * into strict named from tallystick.check_named(log);
  return query
    select named.tenant, o.seq, o.id, problem.field, tallystick.shortened(problem.stored), tallystick.shortened(problem.expected),
      format('%s (%s of entry %s of "%s")', problem.detail, o.pointer, o.seq, named.name),
      format('select * from tallystick.openings where log_id = %s and seq = %s;', named.log_id, o.seq)
    from (
      select r.*, tallystick.commitment_at(r.json, r.pointer) as committed,
        encode(tallystick.hmac_sha256(r.salt, convert_to(r.pointer, 'UTF8') || '\x00'::bytea || convert_to(r.value, 'UTF8')), 'hex') as made,
        tallystick.opening_term(named.log_id, r.pointer, r.value) as made_term
      from (
        select op.seq, op.recorded_at, op.tenant_id, op.term, op.salt, op.pointer, op.value, en.id, en.recorded_at as entry_time,
          tallystick.leaf_json(en.leaf) as json
        from tallystick.openings op
        left join tallystick.entries en on en.log_id = op.log_id and en.seq = op.seq
        where op.log_id = named.log_id
        order by op.seq, op.pointer offset 0
      ) r offset 0
    ) o
    cross join lateral (values
      ('seq', o.id is null, o.seq::text, null, 'there is an opening of an entry that is not there'),
      ('pointer', o.json is not null and o.committed is null, o.pointer, null, 'there is an opening where the leaf has no commitment'),
      -- The term is made of the value alone: where it still fits, the salt is what changed.
      (case when o.made_term = o.term then 'salt' else 'value' end, o.made <> o.committed, o.made, o.committed,
        'the opening''s value and salt do not make the leaf''s commitment'),
      ('term', o.made = o.committed and o.made_term <> o.term, o.term::text, o.made_term::text, 'the opening''s search term is not that of its value'),
      ('recorded_at', o.recorded_at <> o.entry_time, tallystick.rfc3339(o.recorded_at), tallystick.rfc3339(o.entry_time), 'the opening has another time than its entry'),
      ('tenant_id', o.tenant_id <> named.tenant_id, o.tenant_id::text, named.tenant_id::text, 'the opening is filed under another tenant than its log')
    ) as problem (field, wrong, stored, expected, detail)
    where problem.wrong;
end
$$;

-- The term of an opening, whose field is the last token of its pointer; null where the value is no JSON string.
create function tallystick.opening_term(log_id integer, pointer text, value text) returns bigint
language plpgsql stable strict set search_path = pg_catalog, pg_temp as $$
declare
  json jsonb;
begin
  json := value::jsonb;
  if jsonb_typeof(json) <> 'string' then
    return null;
  end if;
  return tallystick.term(log_id, substring(pointer from '[^/]*$'), json #>> '{}', 0);
exception when data_exception or statement_too_complex then
  return null;
end
$$;

-- Everything: what protects the log, hashes and positions, the tree, the chains, the columns, the openings.
create function tallystick.check_log(log text)
returns table (tenant text, seq bigint, id uuid, field text, stored text, expected text, detail text, next text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query select n.tenant, null::bigint, null::uuid, g.relation, null, null, g.relation || ': ' || g.gap, 'select * from tallystick.enforcement_gaps();'
    from tallystick.check_named(log) n cross join tallystick.enforcement_gaps() g;
  return query select * from tallystick.check_leaf_hashes(log);
  return query select * from tallystick.check_tree(log);
  return query select * from tallystick.check_service_chains(log);
  return query select * from tallystick.check_columns(log);
  return query select * from tallystick.check_openings(log);
end
$$;

comment on function tallystick.check_leaf_hashes(text, bigint, bigint) is 'Rows: what is wrong with hashes, positions and times of a log (its name, slug or id).';
comment on function tallystick.check_service_chains(text, text) is 'Rows: what is wrong with the chains of a log''s services, or of one.';
comment on function tallystick.check_tree(text) is 'Rows: which heads, tiles and checkpoints of a log are not those of its entries, and which cosignatures are none.';
comment on function tallystick.check_columns(text, bigint, bigint) is 'Rows: which columns of a log are not what its leaves say.';
comment on function tallystick.check_openings(text) is 'Rows: which openings of a log do not make the commitments in its leaves.';
comment on function tallystick.check_log(text) is 'Rows: everything that is wrong with a log. None: nothing was found wrong. See docs/auditor.md.';

revoke all on function tallystick.check_named(text), tallystick.rfc3339(timestamptz), tallystick.leaf_json(text),
  tallystick.leaf_terms(integer, jsonb, bigint), tallystick.hmac_sha256(bytea, bytea), tallystick.commitment_at(jsonb, text),
  tallystick.shortened(text), tallystick.opening_term(integer, text, text), tallystick.check_leaf_hashes(text, bigint, bigint),
  tallystick.check_service_chains(text, text), tallystick.check_tree(text), tallystick.check_columns(text, bigint, bigint),
  tallystick.check_openings(text), tallystick.check_log(text) from public;
grant execute on function tallystick.check_named(text), tallystick.rfc3339(timestamptz), tallystick.leaf_json(text),
  tallystick.leaf_terms(integer, jsonb, bigint), tallystick.hmac_sha256(bytea, bytea), tallystick.commitment_at(jsonb, text),
  tallystick.shortened(text), tallystick.opening_term(integer, text, text), tallystick.check_leaf_hashes(text, bigint, bigint),
  tallystick.check_service_chains(text, text), tallystick.check_tree(text), tallystick.check_columns(text, bigint, bigint),
  tallystick.check_openings(text), tallystick.check_log(text) to tallystick_auditor;

-- Verifications that run as jobs: their state, so that every server can tell of them. Not part of the log, and no evidence.
create table tallystick.verifications (
  id uuid constraint verifications_pkey primary key default gen_random_uuid(),
  tenant_id uuid not null,
  log_id integer not null,
  service_id text constraint verifications_service_id_size check (octet_length(service_id) between 1 and 1024),
  status text not null default 'queued' constraint verifications_status_known check (status in ('queued', 'running', 'done', 'failed', 'lost')),
  created_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  checked bigint not null default 0,
  size bigint,
  report json,
  problem json,
  constraint verifications_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id),
  constraint verifications_finished check ((finished_at is not null) = (status in ('done', 'failed', 'lost')))
);
create index verifications_newest on tallystick.verifications (tenant_id, created_at);
comment on column tallystick.verifications.heartbeat_at is 'Set every 2 s by the server that runs it. One that is queued or running and has not been heard of for 15 s is lost: its server died.';
comment on column tallystick.verifications.size is 'Of the log; null until the verification has read it.';

alter table tallystick.verifications enable row level security;
create policy own_tenant on tallystick.verifications for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.verifications for insert to tallystick_writer with check (true);
create policy audit on tallystick.verifications for select to tallystick_auditor using (true);
-- What has ended stays as it is.
create policy progress on tallystick.verifications for update to tallystick_writer
  using (tenant_id = (select tallystick.current_tenant()) and finished_at is null)
  with check (tenant_id = (select tallystick.current_tenant()));
create policy forget on tallystick.verifications for delete to tallystick_writer
  using (tenant_id = (select tallystick.current_tenant()));
grant select, insert, delete on tallystick.verifications to tallystick_writer;
grant update (status, heartbeat_at, started_at, finished_at, checked, size, report, problem) on tallystick.verifications to tallystick_writer;
grant select on tallystick.verifications to tallystick_auditor;
