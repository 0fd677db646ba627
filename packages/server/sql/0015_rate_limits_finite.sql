-- Levels of rate limits stay finite: an infinite one would be a debt, or a bucket, for ever, and every server would take it over.

delete from tallystick.rate_limits where not (level > '-infinity' and level < 'infinity' and per_minute < 'infinity');
alter table tallystick.rate_limits
  add constraint rate_limits_finite check (level > '-infinity' and level < 'infinity' and per_minute < 'infinity');

-- As in migration 0012, but for what is no use of a limit: negative, infinite, or not a number (which sorts after infinity). It is passed over
-- and has no row in the answer, so that the others of the same call still count. No debt is beyond 1e12.
create or replace function tallystick.use_rate_limits(keys uuid[], used double precision[], per_minute double precision[])
returns table (key uuid, level double precision)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into tallystick.rate_limits as r (key, level, per_minute, at)
  select u.key, u.per_minute - u.used, u.per_minute, clock_timestamp()
  from unnest(keys, used, per_minute) as u (key, used, per_minute)
  where u.used between 0 and 1e12 and u.per_minute > 0 and u.per_minute <= 1e12
  order by u.key
  on conflict on constraint rate_limits_pkey do update set
    -- A server that was told of a limit a second ago may still count by the one before it.
    level = greatest(least(r.level + excluded.per_minute - r.per_minute
                           + greatest(extract(epoch from excluded.at - r.at), 0) * excluded.per_minute / 60, excluded.per_minute)
                     - (excluded.per_minute - excluded.level), -1e12),
    per_minute = excluded.per_minute, at = greatest(r.at, excluded.at)
  returning r.key, r.level
$$;
