-- role: admin
-- Roles belong to the cluster, not to this database, so that another installation may have made them already;
-- two migrators in two databases may also meet here, hence the exceptions rather than a look beforehand.
-- None of them may create, own or bypass anything by attribute: what they may do is granted below and in 0002.
do $$
declare
  name text;
begin
  foreach name in array array['owner', 'writer', 'reader', 'auditor', 'retention'] loop
    begin
      execute format('create role %I login nosuperuser nocreatedb nocreaterole noreplication', 'tallystick_' || name);
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;
  -- Needed to SET ROLE where the migrating role is not a superuser.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant tallystick_owner, tallystick_writer, tallystick_reader, tallystick_auditor to %I', current_user);
  end if;
end
$$;

-- What the reader may see, the writer may: the tenant that its transaction names, under the same policies.
grant tallystick_reader to tallystick_writer;

create schema if not exists tallystick authorization tallystick_owner;
revoke all on schema tallystick from public;
grant usage on schema tallystick to tallystick_writer, tallystick_reader, tallystick_auditor, tallystick_retention;
