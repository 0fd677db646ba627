import type { JsonValue } from "./json.ts";

/** Whether more than `limit` objects and arrays stand inside each other: what recursion over the value could fail at. */
export function isDeeperThan(limit: number, value: JsonValue): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (limit === 0) return true;
  if (Array.isArray(value)) return value.some((item) => isDeeperThan(limit - 1, item));
  for (const key in value) if (isDeeperThan(limit - 1, value[key]!)) return true;
  return false;
}
