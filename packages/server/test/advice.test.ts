import { filterOf } from "@tallystick/core/filter-parameters";
import { expect, test } from "vitest";
import { narrowingAdvice } from "../src/search/advice.ts";

test.each([
  ["actor_id:*lice created:2026-01-01..2026-01-31", "Ask for whole values of actor_id: with * it has no index."],
  ["metadata.plan.name:g*", "Ask for whole values of metadata.plan.name: with * it has no index. Bound it by times"],
  ["go* created:2026-01-01..2026-01-31", "Give 3 letters or more before * in go*."],
  ["-actor:alice created:>=2026-01-01", "Bound it by times"],
  ["-actor:alice", "Ask for something that the entries have"],
  ['"common words" created:2026-01-01..2026-12-31', "Bound it by less time"],
])("narrowingAdvice() for %s", (q, advice) => {
  expect(narrowingAdvice(filterOf({ q }, []))).toContain(advice);
});
