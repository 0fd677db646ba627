/**
 * The fields that entries are counted by, and what an entry has in each.
 */
import type { TextField } from "@tallystick/core/filter";
import { entryFieldValues } from "@tallystick/core/filter-values";
import type { Leaf } from "@tallystick/core/leaf";

/** In the order of the columns of `rollups`. */
export const COUNTED_FIELDS = ["action", "actor", "resource_type", "outcome", "severity", "service_id"] as const;
export type CountedField = (typeof COUNTED_FIELDS)[number];

/** What filters call the same. */
export const FILTER_FIELD: { readonly [field in CountedField]: TextField } = {
  action: "action",
  actor: "actor_id",
  resource_type: "resource_type",
  outcome: "outcome",
  severity: "severity",
  service_id: "service_id",
};

/**
 * The values that an entry counts for: each once, defaults included, and none where it has no such field. Takes any leaf,
 * whatever stands where its event should have something else.
 */
export function countedValues(field: CountedField, leaf: Leaf): readonly string[] {
  const values = entryFieldValues(FILTER_FIELD[field], leaf);
  // Nearly all entries have one value or none in each field.
  if (values.length === 1) return typeof values[0] === "string" ? (values as string[]) : [];
  return [...new Set(values.filter((value) => typeof value === "string"))];
}
