-- Finding positions: any of several values of a field, values behind commitments, and less work for each page.

-- As before, in a language that keeps the plans of a session: without that planning took most of the time of a short search.
create or replace function tallystick.size_before(log integer, at timestamptz) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce((
    select h.size from tallystick.heads h
    where h.log_id = log and h.tenant_id = tallystick.current_tenant() and h.recorded_at < at
    order by h.recorded_at desc, h.size desc limit 1), 0);
end
$$;

create or replace function tallystick.time_at(log integer, seq bigint) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return (
    select h.recorded_at from tallystick.heads h
    where h.log_id = log and h.tenant_id = tallystick.current_tenant() and h.size > time_at.seq
    order by h.size limit 1);
end
$$;

-- Terms of these values in the blocks of [low, high); null where there are none.
create function tallystick.terms_in(terms bigint[], low bigint, high bigint) returns bigint[]
language sql immutable parallel safe as $$
  select array_agg((block << 32) | term) from unnest(terms) term, generate_series(low >> 16, (high - 1) >> 16) block
$$;

-- Candidates for a search, in log order or against it: at most `wanted` positions in [from_seq, to_seq) of a log of the
-- transaction's tenant. Hashes may collide, and what the first four clauses do not say is not looked at, so that the caller checks
-- each entry; nothing that matches is left out.
--
-- `clauses` has a row for each clause, which are the terms (without the block) of which an entry must have one; rows are filled up by
-- repeating. Order them from the rarest field to the commonest. `opening_terms`: an entry has an opening with one of them, or one of
-- `opening_or_terms`. Nothing leaves an entry out by a term that it has: whoever records it could choose a value whose hash collides.
--
-- An owner function, because under row-level security the operators of arrays, which are not leakproof, are kept out of index
-- conditions. Its plans do not depend on statistics, which are stale exactly when many entries have just arrived:
--   * the nearest entries are read in order, as long as so many of them match that this fills the page soon;
--   * else positions come from the index, by the first two clauses: one block first, then as many as the rest should take;
--   * openings have an index of their own, and lead where they are asked for;
--   * with none of these all is read in order, in growing windows.
create function tallystick.find_candidates(
  log integer, from_seq bigint, to_seq bigint, newest_first boolean, wanted integer,
  clauses bigint[], opening_terms bigint[], opening_or_terms bigint[], action_patterns text[],
  occurred_from timestamptz, occurred_to timestamptz
)
returns table (seq bigint, recorded_at timestamptz)
language plpgsql stable security definer rows 50
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_sort = off as $$
#variable_conflict use_column
declare
  first_seq bigint := greatest(from_seq, 0);
  end_seq bigint := least(to_seq, (select size from tallystick.heads where log_id = log order by size desc limit 1));
  remaining integer := wanted;
  by_opening boolean := opening_terms is not null;
  by_terms boolean := coalesce(array_length(clauses, 1), 0) > 0;
  c1 bigint[] := (select array_agg(distinct term) from unnest(clauses[1:1]) term);
  c2 bigint[] := (select array_agg(distinct term) from unnest(clauses[2:2]) term);
  c3 bigint[] := (select array_agg(distinct term) from unnest(clauses[3:3]) term);
  c4 bigint[] := (select array_agg(distinct term) from unnest(clauses[4:4]) term);
  k1 bigint[];
  k2 bigint[];
  k3 bigint[];
  k4 bigint[];
  opening_keys bigint[];
  opening_term bigint;
  opening_only boolean := clauses = '{}' and action_patterns is null and occurred_from is null and occurred_to is null;
  here bigint[];
  -- An entry may have the same name, or address, for its actor and for each of the four behind it.
  most_alike constant integer := 16;
  in_order boolean := not by_opening; -- else by an index
  window_size bigint := case when by_terms then 512 else greatest(wanted * 2, 512) end;
  blocks bigint := 1; -- how many the next look-up in an index spans
  most_blocks bigint := greatest(1, 1024 / greatest(coalesce(cardinality(c1), 0), coalesce(cardinality(opening_or_terms), 0), 16));
  low bigint;
  high bigint;
  low_time timestamptz;
  high_time timestamptz;
  got integer;
  scanned bigint := 0; -- in this manner
  found bigint := 0;
begin
  if not exists (select from tallystick.logs where id = log and tenant_id = tallystick.current_tenant()) then
    return;
  end if;

  while remaining > 0 and first_seq < end_seq loop
    -- The next window, [low, high); one that is read in order stays within a block, whose terms are then constants.
    if newest_first then
      high := end_seq;
      low := greatest(first_seq, case when in_order then greatest(high - window_size, ((high - 1) >> 16) << 16) else (((high - 1) >> 16) - blocks + 1) << 16 end);
      end_seq := low;
    else
      low := first_seq;
      high := least(end_seq, case when in_order then least(low + window_size, ((low >> 16) + 1) << 16) else ((low >> 16) + blocks) << 16 end);
      first_seq := high;
    end if;
    low_time := (select recorded_at from tallystick.heads where log_id = log and size > low order by size limit 1);
    high_time := (select recorded_at from tallystick.heads where log_id = log and size > high - 1 order by size limit 1);
    k1 := tallystick.terms_in(c1, low, high);
    k2 := tallystick.terms_in(c2, low, high);
    k3 := tallystick.terms_in(c3, low, high);
    k4 := tallystick.terms_in(c4, low, high);

    if in_order then
      -- IS NOT FALSE keeps the index on terms out of these plans, which are to read in order, and lets clauses that are not there hold.
      if newest_first then
        return query
          select e.seq, e.recorded_at from tallystick.entries e
          where e.log_id = log and e.seq >= low and e.seq < high and e.recorded_at >= low_time and e.recorded_at <= high_time
            and (e.terms && k1) is not false and (e.terms && k2) is not false and (e.terms && k3) is not false and (e.terms && k4) is not false
            and (action_patterns is null or e.action like any (action_patterns))
            and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
            and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
          order by e.seq desc limit remaining;
      else
        return query
          select e.seq, e.recorded_at from tallystick.entries e
          where e.log_id = log and e.seq >= low and e.seq < high and e.recorded_at >= low_time and e.recorded_at <= high_time
            and (e.terms && k1) is not false and (e.terms && k2) is not false and (e.terms && k3) is not false and (e.terms && k4) is not false
            and (action_patterns is null or e.action like any (action_patterns))
            and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
            and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
          order by e.seq limit remaining;
      end if;
    elsif by_opening then
      here := '{}';
      foreach opening_term in array opening_terms loop
        -- Without sorts (see above) the order leaves the index on terms as the only one to go by.
        if newest_first then
          here := here || array(
            select distinct o.seq from (
              select o.seq from tallystick.openings o
              where o.log_id = log and o.term = opening_term and o.seq >= low and o.seq < high and o.recorded_at >= low_time and o.recorded_at <= high_time
              order by o.term desc, o.seq desc limit case when opening_only then remaining * most_alike end) o);
        else
          here := here || array(
            select distinct o.seq from (
              select o.seq from tallystick.openings o
              where o.log_id = log and o.term = opening_term and o.seq >= low and o.seq < high and o.recorded_at >= low_time and o.recorded_at <= high_time
              order by o.term, o.seq limit case when opening_only then remaining * most_alike end) o);
        end if;
      end loop;
      opening_keys := tallystick.terms_in(opening_or_terms, low, high);
      if opening_keys is not null then
        -- "+ 0" keeps the primary key out of this plan, which is to go by the terms.
        here := here || array(
          select e.seq from tallystick.entries e
          where e.terms && opening_keys
            and e.log_id + 0 = log and e.seq + 0 >= low and e.seq + 0 < high and e.recorded_at >= low_time and e.recorded_at <= high_time);
      end if;
      return query
        select e.seq, e.recorded_at from tallystick.entries e
        where e.log_id = log and e.seq = any (here) and e.recorded_at >= low_time and e.recorded_at <= high_time
          and (e.terms && k1) is not false and (e.terms && k2) is not false and (e.terms && k3) is not false and (e.terms && k4) is not false
          and (action_patterns is null or e.action like any (action_patterns))
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by case when newest_first then -e.seq else e.seq end limit remaining;
    elsif k2 is null then
      return query
        select e.seq, e.recorded_at from tallystick.entries e
        where e.terms && k1
          and e.log_id + 0 = log and e.seq + 0 >= low and e.seq + 0 < high and e.recorded_at >= low_time and e.recorded_at <= high_time
          and (action_patterns is null or e.action like any (action_patterns))
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by case when newest_first then -e.seq else e.seq end limit remaining;
    else
      return query
        select e.seq, e.recorded_at from tallystick.entries e
        where e.terms && k1 and e.terms && k2
          and e.log_id + 0 = log and e.seq + 0 >= low and e.seq + 0 < high and e.recorded_at >= low_time and e.recorded_at <= high_time
          and (e.terms && k3) is not false and (e.terms && k4) is not false
          and (action_patterns is null or e.action like any (action_patterns))
          and (occurred_from is null or coalesce(e.occurred_at, e.recorded_at) >= occurred_from)
          and (occurred_to is null or coalesce(e.occurred_at, e.recorded_at) < occurred_to)
        order by case when newest_first then -e.seq else e.seq end limit remaining;
    end if;
    get diagnostics got = row_count;
    remaining := remaining - got;
    scanned := scanned + (high - low);
    found := found + got;

    if not in_order then
      -- As many blocks as the rest should take at the density so far.
      blocks := least(most_blocks, case when found = 0 then blocks * 4 else greatest(1, (remaining * scanned / found) >> 16) end);
    elsif not by_terms then
      window_size := least(window_size * 2, 65536);
    elsif found >= 4 and remaining * scanned / found <= 4096 then
      window_size := greatest(256, remaining * scanned / found * 5 / 4);
    else
      in_order := false;
      scanned := 0;
      found := 0;
    end if;
  end loop;
end
$$;

revoke all on function tallystick.find_candidates(integer, bigint, bigint, boolean, integer, bigint[], bigint[], bigint[], text[], timestamptz, timestamptz),
  tallystick.terms_in(bigint[], bigint, bigint) from public;
grant execute on function tallystick.find_candidates(integer, bigint, bigint, boolean, integer, bigint[], bigint[], bigint[], text[], timestamptz, timestamptz)
  to tallystick_reader;
comment on function tallystick.find_positions(integer, bigint, bigint, boolean, integer, bigint[], bigint[], text, timestamptz, timestamptz, bigint) is
  'For servers of the release before, which go on while an upgrade is under way.';
