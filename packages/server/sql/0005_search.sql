-- Finding positions in a log.

-- The search term of a value: the number of the 65,536-entry block that the entry is in, and the first 4 bytes of
-- SHA-256(log id 0x00 field 0x00 value) below it. The block serves twice. New terms are the largest ones, so that the index grows at one end
-- whatever its size, and not all over; and a frequent value is another term in each block, so that one look-up never meets more
-- than a block's worth of matches, however long the log and however many logs there are: the newest blocks are asked first.
create function tallystick.term(log_id integer, field text, value text, seq bigint) returns bigint
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
  select ((seq >> 16) << 32)
    | ('x' || encode(substring(sha256(convert_to(log_id::text, 'UTF8') || '\x00'::bytea || convert_to(field, 'UTF8') || '\x00'::bytea || convert_to(value, 'UTF8')) for 4), 'hex'))::bit(32)::bigint
$$;
grant execute on function tallystick.term(integer, text, text, bigint) to public;

-- Whether an entry has all of these terms and none of those; both without the block. Without settings of its own, so that it is
-- inlined where it is used; the functions that use it fix the search path.
create function tallystick.has_terms(terms bigint[], seq bigint, all_terms bigint[], none_terms bigint[]) returns boolean
language sql immutable parallel safe as $$
  select not exists (select from unnest(all_terms) wanted where not terms @> array[((seq >> 16) << 32) | wanted])
    and not exists (select from unnest(none_terms) refused where terms @> array[((seq >> 16) << 32) | refused])
$$;

-- The size of a log of the transaction's tenant just before a time: entries recorded before it have smaller positions, all others do not.
create function tallystick.size_before(log integer, at timestamptz) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce((select size from tallystick.heads where log_id = log and tenant_id = tallystick.current_tenant() and recorded_at < at order by recorded_at desc, size desc limit 1), 0)
$$;

-- When the entry at a position was recorded: its commit's head is the first one that is larger. Null beyond the log.
create function tallystick.time_at(log integer, seq bigint) returns timestamptz
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select recorded_at from tallystick.heads where log_id = log and tenant_id = tallystick.current_tenant() and size > seq order by size limit 1
$$;

-- Candidates for a search, in log order or against it: at most `wanted` positions in [from_seq, to_seq) of a log of the
-- transaction's tenant. Hashes may collide, so that the caller checks each entry; nothing that matches is left out.
--
-- An owner function, because under row-level security the operators of arrays, which are not leakproof, are kept out of index
-- conditions. Its plans do not depend on statistics, which are stale exactly when many entries have just arrived:
--   * the nearest 4,096 entries are read in order, which serves every frequent value;
--   * with terms, the rest is found by the index, one block first and then up to 16 at a time, by `all_terms[1]` and `[2]`: order them
--     from the rarest field to the commonest;
--   * without terms it is read in order, in growing windows.
create function tallystick.find_positions(
  log integer, from_seq bigint, to_seq bigint, newest_first boolean, wanted integer,
  all_terms bigint[], none_terms bigint[], action_pattern text,
  occurred_from timestamptz, occurred_to timestamptz, opening_term bigint
)
returns table (seq bigint, recorded_at timestamptz)
language plpgsql stable security definer rows 50
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare
  first_seq bigint := greatest(from_seq, 0);
  end_seq bigint := least(to_seq, (select size from tallystick.heads where log_id = log order by size desc limit 1));
  remaining integer := wanted;
  window_size bigint := 4096;
  blocks integer := 0; -- 0: read in order; else how many blocks the next index look-up spans
  low bigint;
  high bigint;
  low_time timestamptz;
  high_time timestamptz;
  here bigint[];
  keys bigint[];
  other_keys bigint[];
  got integer;
  blocks_read integer := 0;
  found_by_index integer := 0;
begin
  if not exists (select from tallystick.logs where id = log and tenant_id = tallystick.current_tenant()) then
    return;
  end if;

  if opening_term is not null then
    -- Once for each direction, so that the index on terms of openings gives the order.
    if newest_first then
      return query
        select o.seq, o.recorded_at
        from tallystick.openings o
        join tallystick.entries e on e.log_id = o.log_id and e.seq = o.seq and e.recorded_at = o.recorded_at
        where o.log_id = log and o.term = opening_term and o.seq >= first_seq and o.seq < end_seq
          and tallystick.has_terms(e.terms, e.seq, all_terms, none_terms)
          and (action_pattern is null or e.action like action_pattern)
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by o.seq desc limit wanted;
    else
      return query
        select o.seq, o.recorded_at
        from tallystick.openings o
        join tallystick.entries e on e.log_id = o.log_id and e.seq = o.seq and e.recorded_at = o.recorded_at
        where o.log_id = log and o.term = opening_term and o.seq >= first_seq and o.seq < end_seq
          and tallystick.has_terms(e.terms, e.seq, all_terms, none_terms)
          and (action_pattern is null or e.action like action_pattern)
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by o.seq limit wanted;
    end if;
    return;
  end if;

  while remaining > 0 and first_seq < end_seq loop
    -- The next window, [low, high); the ordered one stays within a block, whose terms are then constants.
    if newest_first then
      high := end_seq;
      low := greatest(first_seq, case when blocks = 0 then greatest(high - window_size, ((high - 1) >> 16) << 16) else (((high - 1) >> 16) - blocks + 1) << 16 end);
      end_seq := low;
    else
      low := first_seq;
      high := least(end_seq, case when blocks = 0 then least(low + window_size, ((low >> 16) + 1) << 16) else ((low >> 16) + blocks) << 16 end);
      first_seq := high;
    end if;
    low_time := tallystick.time_at(log, low);
    high_time := tallystick.time_at(log, high - 1);

    if blocks = 0 then
      here := array(select ((low >> 16) << 32) | term from unnest(all_terms) term);
      -- IS NOT FALSE keeps the index on terms out of this plan, which is to read in order.
      if newest_first then
        return query
          select e.seq, e.recorded_at from tallystick.entries e
          where e.log_id = log and e.seq >= low and e.seq < high and e.recorded_at >= low_time and e.recorded_at <= high_time
            and (e.terms @> here) is not false
            and (none_terms = '{}' or tallystick.has_terms(e.terms, e.seq, '{}', none_terms))
            and (action_pattern is null or e.action like action_pattern)
            and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
            and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
          order by e.seq desc limit remaining;
      else
        return query
          select e.seq, e.recorded_at from tallystick.entries e
          where e.log_id = log and e.seq >= low and e.seq < high and e.recorded_at >= low_time and e.recorded_at <= high_time
            and (e.terms @> here) is not false
            and (none_terms = '{}' or tallystick.has_terms(e.terms, e.seq, '{}', none_terms))
            and (action_pattern is null or e.action like action_pattern)
            and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
            and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
          order by e.seq limit remaining;
      end if;
    else
      keys := array(select (block << 32) | all_terms[1] from generate_series(low >> 16, (high - 1) >> 16) block);
      other_keys := array(select (block << 32) | coalesce(all_terms[2], all_terms[1]) from generate_series(low >> 16, (high - 1) >> 16) block);
      -- "+ 0" keeps the primary key out of this plan, which is to go by the terms.
      return query
        select e.seq, e.recorded_at from tallystick.entries e
        where e.terms && keys and e.terms && other_keys
          and e.log_id + 0 = log and e.seq + 0 >= low and e.seq + 0 < high and e.recorded_at >= low_time and e.recorded_at <= high_time
          and tallystick.has_terms(e.terms, e.seq, all_terms, none_terms)
          and (action_pattern is null or e.action like action_pattern)
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by case when newest_first then -e.seq else e.seq end limit remaining;
    end if;
    get diagnostics got = row_count;
    remaining := remaining - got;
    if cardinality(all_terms) > 0 then
      -- As many blocks as the rest should take at the density so far.
      if blocks > 0 then
        blocks_read := blocks_read + blocks;
        found_by_index := found_by_index + got;
      end if;
      blocks := case
        when blocks = 0 then 1
        when found_by_index = 0 then 16
        else least(greatest(remaining * blocks_read / found_by_index, 1), 16)
      end;
    else
      window_size := least(window_size * 2, 65536);
    end if;
  end loop;
end
$$;

revoke all on function tallystick.size_before(integer, timestamptz), tallystick.time_at(integer, bigint),
  tallystick.find_positions(integer, bigint, bigint, boolean, integer, bigint[], bigint[], text, timestamptz, timestamptz, bigint) from public;
grant execute on function tallystick.size_before(integer, timestamptz), tallystick.time_at(integer, bigint),
  tallystick.find_positions(integer, bigint, bigint, boolean, integer, bigint[], bigint[], text, timestamptz, timestamptz, bigint)
  to tallystick_reader;
