-- What keeps tenants apart is looked at like what keeps entries unchanged, and what a server says is not taken beyond what can be.

-- Whoever holds a certificate, or the operator, maps it: whose it once was does not matter, and that it is somebody's the unique
-- indexes say.
drop function tallystick.certificate_is_taken(uuid, bytea, text, boolean);

-- A time that is yet to come, `infinity` too, would stand there for good: no later one could ever take its place.
create or replace function tallystick.note_api_keys_used(ids uuid[], times timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update tallystick.api_keys k set last_used_at = used.at
  from (select id, least(max(at), now()) as at from unnest(ids, times) as used (id, at) where isfinite(at) group by id) used
  where k.id = used.id and (k.last_used_at is null or k.last_used_at < used.at)
$$;

create or replace function tallystick.note_certificates_used(ids uuid[], times timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update tallystick.client_certificates c set last_used_at = used.at
  from (select id, least(max(at), now()) as at from unnest(ids, times) as used (id, at) where isfinite(at) group by id) used
  where c.id = used.id and (c.last_used_at is null or c.last_used_at < used.at)
$$;

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
      'log_keys', 'checkpoints', 'cosignatures', 'publisher_keys', 'services')
    and not exists (select from refusing t where t.tgrelid = expected.oid and t.tgname = relname || '_append_only'
      -- BEFORE, for each statement; TRUNCATE, and of UPDATE and DELETE what protect() was called for.
      and t.tgtype = 2 + 32 + case coalesce(parent, relname) when 'openings' then 16 when 'tenants' then 8 when 'publisher_keys' then 8 when 'services' then 8 else 16 + 8 end)
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
