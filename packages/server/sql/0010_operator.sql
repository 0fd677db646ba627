-- The operator's own tenant, credentials that act across tenants, and what is set for a tenant.

-- No client can choose a slug with an underscore: this one is made by the server.
alter table tallystick.tenants drop constraint tenants_slug_form;
alter table tallystick.tenants add constraint tenants_slug_form check (slug ~ '^[a-z0-9-]{1,63}$' or slug = '_operator');
alter table tallystick.tenants add column settings jsonb not null default '{}' constraint tenants_settings_object check (jsonb_typeof(settings) = 'object');
comment on column tallystick.tenants.settings is 'What the operator has set for this tenant in place of the installation''s settings; null or missing: the installation''s.';

-- The names of tenants are one another's business no more than their entries. The writer serves them all.
alter table tallystick.tenants enable row level security;
create policy own_tenant on tallystick.tenants for select to tallystick_reader using (id = (select tallystick.current_tenant()));
create policy serve_all on tallystick.tenants for select to tallystick_writer using (true);
create policy append on tallystick.tenants for insert to tallystick_writer with check (true);
create policy change on tallystick.tenants for update to tallystick_writer using (true) with check (true);
create policy audit on tallystick.tenants for select to tallystick_auditor using (true);
grant update (settings) on tallystick.tenants to tallystick_writer;

-- Which tenant is meant, by id or slug, for whoever is about to set it and sees none before.
create function tallystick.tenant_named(id_or_slug text) returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select id from tallystick.tenants where slug = id_or_slug or id::text = id_or_slug
$$;
revoke all on function tallystick.tenant_named(text) from public;
grant execute on function tallystick.tenant_named(text) to tallystick_reader, tallystick_auditor;

-- Scope operator: to act across tenants. Only the operator's own credentials can have it.
alter table tallystick.api_keys drop constraint api_keys_scopes_known;
alter table tallystick.api_keys add constraint api_keys_scopes_known
  check (cardinality(scopes) > 0 and scopes <@ array['write', 'read', 'stream', 'export', 'verify', 'admin', 'operator']);
alter table tallystick.api_keys add column last_used_at timestamptz;
comment on column tallystick.api_keys.last_used_at is 'To about a minute: written now and then for all keys, never by the request that uses one.';
grant select (last_used_at) on tallystick.api_keys to tallystick_writer;

-- An owner function, because the policy of tenants shows whoever inserts no other tenant than their own.
create function tallystick.may_operate(tenant uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from tallystick.tenants where id = tenant and slug = '_operator')
$$;
revoke all on function tallystick.may_operate(uuid) from public;
grant execute on function tallystick.may_operate(uuid) to tallystick_writer;
drop policy append on tallystick.api_keys;
create policy append on tallystick.api_keys for insert to tallystick_writer
  with check (not 'operator' = any (scopes) or tallystick.may_operate(tenant_id));

-- Notes when keys were last used: of any tenants, a time for each.
create function tallystick.note_api_keys_used(ids uuid[], times timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update tallystick.api_keys k set last_used_at = used.at
  from (select id, max(at) as at from unnest(ids, times) as used (id, at) group by id) used
  where k.id = used.id and (k.last_used_at is null or k.last_used_at < used.at)
$$;
revoke all on function tallystick.note_api_keys_used(uuid[], timestamptz[]) from public;
grant execute on function tallystick.note_api_keys_used(uuid[], timestamptz[]) to tallystick_writer;
