-- What servers tell each other of the use of rate limits: a bucket of tokens for each tenant or credential that was active lately.

-- Unlogged: nothing of it is worth keeping through a crash, after which every bucket is full.
create unlogged table tallystick.rate_limits (
  key uuid primary key,
  level double precision not null,
  per_minute double precision not null constraint rate_limits_per_minute_positive check (per_minute > 0),
  at timestamptz not null
) with (fillfactor = 50);
comment on table tallystick.rate_limits is 'Tokens that were left at a time; a bucket fills by per_minute, and holds as many. No row: it is full.';
comment on column tallystick.rate_limits.key is 'The first half of a hash: of a tenant''s id, or of a credential''s kind, tenant and id.';
alter table tallystick.rate_limits enable row level security; -- without a policy: by the functions below only

-- Takes what was used from each bucket, and says what is left. In the order of keys, so that servers do not wait for one another in a circle.
create function tallystick.use_rate_limits(keys uuid[], used double precision[], per_minute double precision[])
returns table (key uuid, level double precision)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into tallystick.rate_limits as r (key, level, per_minute, at)
  select u.key, u.per_minute - u.used, u.per_minute, clock_timestamp()
  from unnest(keys, used, per_minute) as u (key, used, per_minute) order by u.key
  on conflict on constraint rate_limits_pkey do update set
    -- A server that was told of a limit a second ago may still count by the one before it.
    level = least(r.level + excluded.per_minute - r.per_minute
                  + greatest(extract(epoch from excluded.at - r.at), 0) * excluded.per_minute / 60, excluded.per_minute)
            - (excluded.per_minute - excluded.level),
    per_minute = excluded.per_minute, at = greatest(r.at, excluded.at)
  returning r.key, r.level
$$;

-- Forgets the buckets that are full again.
create function tallystick.forget_rate_limits() returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  delete from tallystick.rate_limits
  where level + extract(epoch from clock_timestamp() - at) * per_minute / 60 >= per_minute
$$;

revoke all on function tallystick.use_rate_limits(uuid[], double precision[], double precision[]), tallystick.forget_rate_limits() from public;
grant execute on function tallystick.use_rate_limits(uuid[], double precision[], double precision[]), tallystick.forget_rate_limits() to tallystick_writer;
