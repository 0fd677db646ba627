-- Client certificates: which tenant, service and scopes a certificate stands for.

create table tallystick.client_certificates (
  id uuid constraint client_certificates_pkey primary key default gen_random_uuid(),
  tenant_id uuid not null constraint client_certificates_tenant_fkey references tallystick.tenants (id),
  name text not null constraint client_certificates_name_size check (octet_length(name) between 1 and 1024),
  fingerprint bytea constraint client_certificates_fingerprint_size check (octet_length(fingerprint) = 32),
  san text constraint client_certificates_san_form check (san ~ '^(URI|DNS|email):[!-~]+$' and octet_length(san) <= 1024),
  service_id text constraint client_certificates_service_id_size check (octet_length(service_id) between 1 and 128),
  scopes text[] not null constraint client_certificates_scopes_known
    check (cardinality(scopes) > 0 and scopes <@ array['write', 'read', 'stream', 'export', 'verify', 'admin', 'operator']),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  constraint client_certificates_one_identity check (num_nonnulls(fingerprint, san) = 1)
);
comment on column tallystick.client_certificates.fingerprint is 'SHA-256 of the certificate in DER; or san.';
comment on column tallystick.client_certificates.san is 'A subject alternative name that the installation''s CA gives to one holder: URI:, DNS: (lower case) or email:.';
comment on column tallystick.client_certificates.last_used_at is 'To about a minute: written now and then for all, never by the request that uses one.';
create index client_certificates_tenant on tallystick.client_certificates (tenant_id);
-- Of all tenants: a certificate stands for one caller.
create unique index client_certificates_fingerprint_key on tallystick.client_certificates (fingerprint) where revoked_at is null;
create unique index client_certificates_san_key on tallystick.client_certificates (san) where revoked_at is null;
create index client_certificates_fingerprint on tallystick.client_certificates (fingerprint) where revoked_at is not null;
create index client_certificates_san on tallystick.client_certificates (san) where revoked_at is not null;

-- All mappings that fit a certificate, whichever tenant's: those that count, then the newest of those that are revoked.
create function tallystick.find_client_certificate(fingerprint bytea, sans text[])
returns table (id uuid, tenant_id uuid, by_fingerprint boolean, service_id text, scopes text[], expires_at timestamptz, revoked_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.id, c.tenant_id, c.fingerprint is not null, c.service_id, c.scopes, c.expires_at, c.revoked_at
  from tallystick.client_certificates c
  where (c.fingerprint = find_client_certificate.fingerprint or c.san = any (find_client_certificate.sans)) and c.revoked_at is null
  union all
  (
    select c.id, c.tenant_id, c.fingerprint is not null, c.service_id, c.scopes, c.expires_at, c.revoked_at
    from tallystick.client_certificates c
    where (c.fingerprint = find_client_certificate.fingerprint or c.san = any (find_client_certificate.sans)) and c.revoked_at is not null
    order by c.revoked_at desc limit 100
  )
$$;

-- Whether a mapping could not be made: there is one, of any tenant. With `ever`, also where the fingerprint was once another tenant's:
-- certificates are no secrets, and one that a tenant has just revoked must not begin to act for another.
create function tallystick.certificate_is_taken(tenant uuid, fingerprint bytea, san text, ever boolean) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from tallystick.client_certificates c
    where c.revoked_at is null and (c.fingerprint = certificate_is_taken.fingerprint or c.san = certificate_is_taken.san)
  ) or ever and exists (
    select from tallystick.client_certificates c
    where c.revoked_at is not null and c.fingerprint = certificate_is_taken.fingerprint and c.tenant_id <> tenant
  )
$$;

-- Notes when certificates were last used: of any tenants, a time for each.
create function tallystick.note_certificates_used(ids uuid[], times timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update tallystick.client_certificates c set last_used_at = used.at
  from (select id, max(at) as at from unnest(ids, times) as used (id, at) group by id) used
  where c.id = used.id and (c.last_used_at is null or c.last_used_at < used.at)
$$;

revoke all on function tallystick.find_client_certificate(bytea, text[]), tallystick.certificate_is_taken(uuid, bytea, text, boolean),
  tallystick.note_certificates_used(uuid[], timestamptz[]) from public;
grant execute on function tallystick.find_client_certificate(bytea, text[]), tallystick.certificate_is_taken(uuid, bytea, text, boolean),
  tallystick.note_certificates_used(uuid[], timestamptz[]) to tallystick_writer;

alter table tallystick.client_certificates enable row level security;
create policy own_tenant on tallystick.client_certificates for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.client_certificates for insert to tallystick_writer
  with check (tenant_id = (select tallystick.current_tenant()) and (not 'operator' = any (scopes) or tallystick.may_operate(tenant_id)));
create policy revoke_own on tallystick.client_certificates for update to tallystick_writer
  using (tenant_id = (select tallystick.current_tenant()) and revoked_at is null)
  with check (tenant_id = (select tallystick.current_tenant()) and revoked_at is not null); -- for good
create policy audit on tallystick.client_certificates for select to tallystick_auditor using (true);
grant select, insert on tallystick.client_certificates to tallystick_writer;
grant update (revoked_at) on tallystick.client_certificates to tallystick_writer;
