/**
 * The values that occur in a log, so that a pattern can be asked for as the few values that it stands for.
 */
import { isWanted } from "@tallystick/core/filter";
import type pg from "pg";
import type { CountedField } from "./counted-fields.ts";
import { newestMinute } from "./rollup-rows.ts";

export interface Expansion {
  /** All values of the pattern that entries before `upTo` have, in the order of their first entries. */
  readonly values: readonly string[];
  /** Entries from this position on may have others: they are not rolled up yet. */
  readonly upTo: number;
}

/** Values that are looked at: more are no vocabulary but ids, and reading them all would take longer than it saves. */
const MAX_VALUES = 10_000;

/**
 * @param client sees the log's tenant.
 * @param parts of a pattern, which has any text between them.
 * @returns undefined where more than `limit` values are of the pattern, or the field has too many to look at.
 */
export async function expandPattern(
  client: pg.ClientBase,
  logId: number,
  field: CountedField,
  parts: readonly string[],
  limit: number,
): Promise<Expansion | undefined> {
  // Before the values: what is counted meanwhile only adds to them.
  const upTo = (await newestMinute(client, logId))?.endSeq ?? 0;
  const { rows } = await client.query<{ value: string }>(
    "select value from tallystick.rollup_values where log_id = $1 and field = $2 order by id limit $3",
    [logId, field, MAX_VALUES + 1],
  );
  if (rows.length > MAX_VALUES) return undefined;
  const values = rows.map(({ value }) => value).filter((value) => isWanted({ kind: "pattern", parts }, value));
  return values.length > limit ? undefined : { values, upTo };
}
