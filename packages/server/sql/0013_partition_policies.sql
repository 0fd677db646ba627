-- Partitions have the policies of their tables. Row-level security alone, without a policy, shows whoever asks a partition by its name
-- nothing; that must not depend on nobody ever being granted anything on one, or on what somebody adds to one partition by hand.

create procedure tallystick.copy_policies(parent regclass, partition regclass)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  policy record;
begin
  for policy in
    select p.polname, p.polcmd, p.polpermissive,
      (select string_agg(format('%I', r.rolname), ', ' order by r.rolname) from pg_roles r where r.oid = any (p.polroles)) as roles,
      pg_get_expr(p.polqual, p.polrelid) as using_text, pg_get_expr(p.polwithcheck, p.polrelid) as check_text
    from pg_policy p
    where p.polrelid = parent
      and not exists (select from pg_policy own where own.polrelid = partition and own.polname = p.polname)
  loop
    execute format('create policy %I on %s as %s for %s to %s %s %s', policy.polname, partition,
      case when policy.polpermissive then 'permissive' else 'restrictive' end,
      case policy.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
      coalesce(policy.roles, 'public'),
      case when policy.using_text is not null then format('using (%s)', policy.using_text) else '' end,
      case when policy.check_text is not null then format('with check (%s)', policy.check_text) else '' end);
  end loop;
end
$$;
revoke all on procedure tallystick.copy_policies(regclass, regclass) from public;

create or replace function tallystick.attach_partition(parent regclass, name text, lower_bound timestamptz, upper_bound timestamptz)
returns boolean
language plpgsql set timezone = 'UTC' as $$
declare
  parent_name text := (select relname from pg_class where oid = parent);
begin
  if to_regclass(format('tallystick.%I', name)) is not null then
    return false;
  end if;
  execute format('create table tallystick.%I (like %s including defaults including constraints including storage)', name, parent);
  execute format('alter table tallystick.%I enable row level security', name);
  call tallystick.copy_policies(parent, format('tallystick.%I', name)::regclass);
  if parent_name = 'entries' then
    call tallystick.protect(format('tallystick.%I', name)::regclass, 'update or delete or truncate');
    execute format('create trigger %I before update or delete on tallystick.%I for each row execute function tallystick.refuse_change()', name || '_append_only_row', name);
    execute format('alter table tallystick.%I enable always trigger %I', name, name || '_append_only_row');
  elsif parent_name = 'openings' then
    call tallystick.protect(format('tallystick.%I', name)::regclass, 'update or truncate');
    execute format('create trigger %I before update on tallystick.%I for each row execute function tallystick.refuse_change()', name || '_append_only_row', name);
    execute format('alter table tallystick.%I enable always trigger %I', name, name || '_append_only_row');
  end if;
  execute format('alter table %s attach partition tallystick.%I for values from (%L) to (%L)', parent, name, lower_bound, upper_bound);
  return true;
end
$$;

do $$
declare
  parent regclass;
  partition regclass;
begin
  for parent, partition in
    select inhparent::regclass, inhrelid::regclass from pg_inherits join pg_class p on p.oid = inhparent
    where p.relnamespace = 'tallystick'::regnamespace and p.relkind = 'p' order by 1, 2
  loop
    call tallystick.copy_policies(parent, partition);
  end loop;
end
$$;
