-- Cosignatures: what witnesses answered for checkpoints that were published. Each was verified before it came here, and can be again.

-- Whether a text is a signature line (C2SP signed-note) by the key of this name and id. One that is not would make the note that it
-- is served with unreadable, for everyone.
create function tallystick.is_signature_line(line text, key text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
  -- A name has no white space of Unicode's, no + and no control characters. CASE: decode() sees nothing but base64.
  select coalesce(case
    when line ~ '^— [^\u0001-\u0020+\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+ (?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'
    then (
      select octet_length(bytes) > 4 and translate(encode(bytes, 'base64'), E'\n', '') = split_part(line, ' ', 3)
        and key = split_part(line, ' ', 2) || '+' || encode(substring(bytes for 4), 'hex')
      from decode(split_part(line, ' ', 3), 'base64') bytes
    ) end, false)
$$;

create table tallystick.cosignatures (
  log_id integer not null,
  size bigint not null,
  tenant_id uuid not null,
  witness text not null constraint cosignatures_witness_size check (octet_length(witness) between 1 and 512),
  nth smallint not null constraint cosignatures_nth_range check (nth between 1 and 64),
  cosigned_at timestamptz not null,
  received_at timestamptz not null default clock_timestamp(),
  line text not null constraint cosignatures_line_size check (octet_length(line) <= 1024),
  constraint cosignatures_line_form check (tallystick.is_signature_line(line, witness)),
  constraint cosignatures_pkey primary key (log_id, size, witness),
  constraint cosignatures_log_fkey foreign key (log_id, tenant_id) references tallystick.logs (id, tenant_id),
  constraint cosignatures_checkpoint_fkey foreign key (log_id, size) references tallystick.checkpoints (log_id, size)
);
comment on column tallystick.cosignatures.witness is 'The witness''s key: its name, +, and the 8 hex digits of its key id.';
comment on column tallystick.cosignatures.nth is 'This was the checkpoint''s n-th. The newest checkpoint that has n of them is found by one look, however many there are.';
comment on column tallystick.cosignatures.cosigned_at is 'When the witness says it was.';
comment on column tallystick.cosignatures.line is 'The signature line (C2SP tlog-cosignature), without its newline, as it stands behind the note.';
create unique index cosignatures_nth on tallystick.cosignatures (log_id, nth, size);
create index cosignatures_witness on tallystick.cosignatures (log_id, witness, size);

call tallystick.protect('tallystick.cosignatures', 'update or delete or truncate');

alter table tallystick.cosignatures enable row level security;
create policy own_tenant on tallystick.cosignatures for select to tallystick_reader using (tenant_id = (select tallystick.current_tenant()));
create policy append on tallystick.cosignatures for insert to tallystick_writer with check (true);
create policy audit on tallystick.cosignatures for select to tallystick_auditor using (true);
grant select on tallystick.cosignatures to tallystick_reader, tallystick_auditor;

-- Keeps a witness's cosignature of a published checkpoint: the only way for one to come here, as tallystick_writer has no INSERT. False where it is there already, or the checkpoint has as many as are kept.
create function tallystick.keep_cosignature(log_id integer, size bigint, witness text, line text, cosigned_at timestamptz)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  tenant uuid;
begin
  -- Two that come at once are counted one after the other.
  select c.tenant_id into tenant from tallystick.checkpoints c where c.log_id = log_id and c.size = size for no key update;
  if tenant is null then
    raise exception 'log % has no published checkpoint of size %', log_id, size using errcode = 'foreign_key_violation';
  end if;
  if split_part(line, ' ', 2) = (select l.name from tallystick.logs l where l.id = log_id) then
    raise exception 'a log does not cosign its own checkpoints' using errcode = 'check_violation';
  end if;
  if exists (select from tallystick.cosignatures s where s.log_id = log_id and s.size = size and s.witness = witness) then
    return false;
  end if;
  insert into tallystick.cosignatures (log_id, size, tenant_id, witness, nth, line, cosigned_at)
  select log_id, size, tenant, witness, coalesce(max(s.nth), 0) + 1, line, cosigned_at
  from tallystick.cosignatures s where s.log_id = log_id and s.size = size
  having coalesce(max(s.nth), 0) < 64;
  return found;
end
$$;

-- The newest published checkpoint of each log that goes on, where one of these witnesses has not cosigned it.
create function tallystick.uncosigned_checkpoints(witnesses text[])
returns table (log_id integer, tenant_id uuid, name text, size bigint, root bytea, note text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.id, l.tenant_id, l.name, c.size, c.root, c.note
  from tallystick.logs l
  cross join lateral (select * from tallystick.checkpoints where log_id = l.id order by size desc limit 1) c
  where not exists (select from tallystick.logs successor where successor.predecessor_id = l.id)
    and (select count(*) from tallystick.cosignatures s where s.log_id = c.log_id and s.size = c.size and s.witness = any (witnesses))
      < cardinality(witnesses)
$$;

revoke all on function tallystick.keep_cosignature(integer, bigint, text, text, timestamptz), tallystick.uncosigned_checkpoints(text[]) from public;
grant execute on function tallystick.keep_cosignature(integer, bigint, text, text, timestamptz), tallystick.uncosigned_checkpoints(text[])
  to tallystick_writer;
