import { expect, test } from "vitest";
import { Metrics } from "../src/metrics.ts";

test("Metrics counts by service, and those beyond the first 500 together", async () => {
  const metrics = new Metrics();
  for (let round = 0; round < 2; round++) for (let i = 0; i < 700; i++) metrics.received(`service-${i}`, 2);
  metrics.received('quote"\nnewline\\');
  metrics.rejected("signature_wrong");
  metrics.limited("tenant");
  metrics.signatureVerified(0.0002);
  const lines = (await metrics.text()).split("\n");
  const received = lines.filter((line) => line.startsWith("audit_events_received_total{"));
  expect(received).toHaveLength(501);
  expect(received).toContain('audit_events_received_total{service="service-499"} 4');
  expect(received).toContain('audit_events_received_total{service="(other services)"} 801');
  expect(lines).toContain('audit_events_rejected_total{reason="signature_wrong"} 1');
  expect(lines).toContain('audit_requests_limited_total{limit="tenant"} 1');
  expect(lines).toContain('signature_verification_seconds_bucket{le="0.0003"} 1');
  expect(lines.some((line) => line.startsWith("nodejs_eventloop_lag_seconds "))).toBe(true);
});
