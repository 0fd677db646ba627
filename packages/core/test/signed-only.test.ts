import { expect, test } from "vitest";
import type { JsonObject } from "../src/json.ts";
import type { Leaf } from "../src/leaf.ts";
import {
  applyServiceChange,
  hadToBeSigned,
  isServiceChange,
  type SignedOnlyChange,
  settingsSucceeding,
} from "../src/signed-only.ts";

function change(seq: number, metadata: JsonObject | undefined, service = "tallystick"): Leaf {
  return {
    v: 1,
    log: "log.example/acme",
    seq,
    id: "00000000-0000-7000-8000-000000000000",
    recorded_at: `2026-03-01T09:30:00.00000${seq}Z`,
    service: { id: service, seq, prev: "" },
    event: { action: "tallystick.service.changed", actor: { id: "operator" }, ...(metadata && { metadata }) },
  } as Leaf;
}

test("a change counts from the entry behind it on, until the next one", () => {
  const history = new Map<string, readonly SignedOnlyChange[]>();
  applyServiceChange(history, change(2, { service_id: "orders", signed_only: true }));
  applyServiceChange(history, change(5, { service_id: "orders", signed_only: false }));
  applyServiceChange(history, change(6, { service_id: "billing", signed_only: true }));
  expect([1, 2, 3, 5, 6].map((seq) => hadToBeSigned(history, "orders", seq))).toEqual([
    false,
    false,
    true,
    true,
    false,
  ]);
  expect(hadToBeSigned(history, "billing", 7)).toBe(true);
  expect(hadToBeSigned(history, "other", 7)).toBe(false);
});

test("a successor log starts from the settings before it, at its first position", () => {
  const history = new Map<string, readonly SignedOnlyChange[]>();
  applyServiceChange(history, change(2, { service_id: "orders", signed_only: false }));
  applyServiceChange(history, change(7, { service_id: "orders", signed_only: true }));
  const next = settingsSucceeding(history);
  expect(next.get("orders")).toEqual([{ seq: -1, signedOnly: true, recordedAt: "2026-03-01T09:30:00.000007Z" }]);
  expect(hadToBeSigned(next, "orders", 0)).toBe(true);
});

test("entries that do not say what they have to are errors, and those of another service none of these", () => {
  const history = new Map<string, readonly SignedOnlyChange[]>();
  for (const [metadata, field] of [
    [undefined, "service_id"],
    [{ signed_only: true }, "service_id"],
    [{ service_id: "orders", signed_only: "yes" }, "signed_only"],
  ] as const) {
    expect(() => applyServiceChange(history, change(3, metadata))).toThrow(
      expect.objectContaining({ code: "bad_history", seq: 3, field: `event/metadata/${field}` }),
    );
  }
  expect(history.size).toBe(0);
  expect(isServiceChange(change(3, undefined))).toBe(true);
  expect(isServiceChange(change(3, undefined, "orders"))).toBe(false);
});
