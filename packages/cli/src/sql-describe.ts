/**
 * `\d`: what tables there are, and what one is made of.
 */
import { escapeLiteral } from "pg";

/** The query behind `\d [table]`; undefined for text that is no such command. */
export function describeQuery(text: string): string | undefined {
  const [, table] = /^\\d(?:\s+([A-Za-z0-9_."]+))?\s*;?\s*$/.exec(text.trim()) ?? [];
  if (table !== undefined) return columnsOf(table);
  return /^\\d\s*;?\s*$/.test(text.trim()) ? TABLES : undefined;
}

// Partitions are left out: there is one a month, and they are what their parent is.
const TABLES = `select c.relname as "table", obj_description(c.oid) as description
  from pg_class c where c.relnamespace = 'tallystick'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
  order by c.relname`;

function columnsOf(table: string): string {
  return `select a.attname as "column", format_type(a.atttypid, a.atttypmod) as type,
      case when a.attnotnull then 'not null' end as "null", pg_get_expr(d.adbin, d.adrelid) as "default",
      col_description(a.attrelid, a.attnum) as description
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = ${escapeLiteral(table)}::regclass and a.attnum > 0 and not a.attisdropped
    order by a.attnum`;
}
