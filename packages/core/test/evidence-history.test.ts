/** Publishers' signatures in evidence: what the history of keys shows, and what it leaves open. */
import { generateKeyPairSync, sign } from "node:crypto";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import type { Event } from "../src/event.ts";
import { EvidenceVerifier } from "../src/evidence-verify.ts";
import { evidenceWords } from "../src/evidence-words.ts";
import { KEY_ACTIONS, SYSTEM_SERVICE } from "../src/publisher-keys.ts";
import { LOG, SmallLog, testWitness } from "../src/testing/evidence.ts";
import { parseVerifierKey } from "../src/verifier-key.ts";

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const facts = { service_id: "orders", key_id: "orders:v1" };
const operator = { id: "operator" };

function register(log: SmallLog): void {
  const public_key_pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  const metadata = { ...facts, algorithm: "ed25519", public_key_pem, valid_from: "2026-01-01T00:00:00.000000Z" };
  log.append({ action: KEY_ACTIONS.registered, actor: operator, metadata }, SYSTEM_SERVICE);
}

function revoke(log: SmallLog): void {
  const metadata = { ...facts, revoked_at: "2026-01-31T12:00:00.000000Z" };
  log.append({ action: KEY_ACTIONS.revoked, actor: operator, metadata }, SYSTEM_SERVICE);
}

/** An entry of the server's own that is about no key. */
function other(log: SmallLog): void {
  const metadata = { service_id: "orders", signed_only: true };
  log.append({ action: "tallystick.service.changed", actor: operator, metadata }, SYSTEM_SERVICE);
}

function paid(log: SmallLog): void {
  const event: Event = { action: "order.paid", actor: { id: `u-${log.leaves.length}` } };
  const signature = sign(null, Buffer.from(canonicalize(event as never)), privateKey).toString("base64");
  log.append(event, "orders", { algorithm: "ed25519", key_id: facts.key_id, signature });
}

/** An entry of the service that nobody signed. */
function unsigned(log: SmallLog): void {
  log.append({ action: "order.paid", actor: { id: "u" } }, "orders");
}

/** A log of these, in order. */
function logOf(...appends: ((log: SmallLog) => void)[]): SmallLog {
  const log = new SmallLog();
  for (const append of appends) append(log);
  return log;
}

function check(log: SmallLog, options: Parameters<SmallLog["evidence"]>[0] = {}, trust = {}) {
  const verifier = new EvidenceVerifier({ logKey: parseVerifierKey(log.verifierKey), ...trust });
  verifier.write(log.evidence(options));
  const report = verifier.report();
  const { proved, notProved, attacks } = evidenceWords(report);
  return { ...report, claim: proved.join("\n"), open: notProved.join("\n"), attacks };
}

const VALID_THEN = "with a key that was valid then";
const COULD_LACK = "a revocation or another change could have been left out";
const filter = { service_id: "orders" };

describe("a key that was revoked", () => {
  const log = logOf(register, revoke, paid);

  test("signs nothing, and its revocation cannot be left out of the history where the file has it as an entry", () => {
    expect(check(log).findings).toMatchObject([{ seq: 2, kind: "publisher" }]);
    const { verdict, findings } = check(log, { history: [0] });
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([{ seq: 1, kind: "key_history", detail: expect.stringContaining("leaves it out") }]);
  });

  test("cannot be left out between two other entries of the server's own", () => {
    const longer = logOf(register, revoke, other, paid);
    for (const history of [[0, 2], [1, 2], [2]]) {
      const { verdict, findings } = check(longer, { history, only: [3], filter });
      expect(verdict).toBe("tampered");
      expect(findings).toContainEqual(
        expect.objectContaining({ kind: "key_history", field: "service.seq", detail: expect.stringContaining("gap") }),
      );
    }
  });

  test("is not said to have been valid where the end of the history could have been left out", () => {
    const report = check(log, { history: [0], only: [2], filter });
    expect(report).toMatchObject({ verdict: "good", signatures: { valid: 1 }, keysComplete: false });
    expect(report.claim).not.toContain(VALID_THEN);
    expect(report.open).toContain(COULD_LACK);
  });
});

describe("a key is said to have been valid then", () => {
  test("where the file has every entry that could tell otherwise", () => {
    const log = logOf(unsigned, register, paid, other, paid, revoke);
    for (const options of [{}, { from: 1 }, { from: 2 }, { from: 4, to: 5 }, { only: [0, 2, 4], filter }]) {
      const report = check(log, options);
      expect(report, JSON.stringify(options)).toMatchObject({ verdict: "good", keysComplete: true });
      expect(report.claim).toContain(VALID_THEN);
      expect(report.open).not.toContain(COULD_LACK);
    }
  });

  test("not where positions between the history and a range are not known", () => {
    const log = logOf(register, paid, paid, paid);
    expect(check(log, { from: 1 }).keysComplete).toBe(true);
    expect(check(log, { from: 2 })).toMatchObject({ verdict: "good", keysComplete: false, signatures: { valid: 2 } });
  });
});

test("signatures on every entry do not rule out that the whole log was rewritten: a witness does", () => {
  const witness = testWitness();
  const rewritten = /^An administrator who also holds the log's key rewrote the whole log/;
  const log = logOf(register, paid, paid);
  const answerTo = (report: ReturnType<typeof check>) =>
    report.attacks.find(({ attack }) => rewritten.test(attack))?.answer;
  expect(answerTo(check(log, { only: [1, 2], filter }))).toBe("not_ruled_out");
  const witnesses = [{ by: witness, time: 1_770_000_000 }];
  const seen = check(log, { only: [1, 2], filter, witnesses }, { witnessKeys: [witness.key] });
  expect(answerTo(seen)).toBe("ruled_out");
});

describe("the log before", () => {
  const before = logOf(register, paid, paid);
  const successor = new SmallLog([], `${LOG}.2`);
  successor.succeed(before);
  paid(successor);

  test("hands its keys on, and its end is not known", () => {
    const report = check(successor, { before });
    expect(report).toMatchObject({ verdict: "good", signatures: { valid: 1 }, keysComplete: false });
    expect(report.open).toContain(COULD_LACK);
  });

  test("whose last entry is the server's own is known to its end", () => {
    const closed = logOf(unsigned, register);
    const next = new SmallLog([], `${LOG}.2`);
    next.succeed(closed);
    paid(next);
    expect(check(next, { before: closed })).toMatchObject({ verdict: "good", keysComplete: true });
    expect(check(next, { before: closed, from: 1 })).toMatchObject({ verdict: "good", keysComplete: true });
  });

  test("is known to be there: without it nothing is said of keys", () => {
    const renewed = new SmallLog([], `${LOG}.2`);
    renewed.succeed(before);
    register(renewed);
    paid(renewed);
    expect(check(renewed)).toMatchObject({ verdict: "good", signatures: { valid: 1 }, keysComplete: false });
  });

  test("is the one that the successor cites", () => {
    const forged = logOf(register, unsigned, paid);
    expect(check(successor, { before: forged }).findings[0]).toMatchObject({
      seq: 0,
      kind: "key_history",
      field: "event/metadata/signed",
    });
    const grown = logOf(register, paid, paid, paid);
    expect(check(successor, { before: grown }).verdict).toBe("tampered");
    const shorter = check(successor, { before, beforeSize: 2 });
    expect(shorter).toMatchObject({
      verdict: "unchecked",
      findings: [],
      obstacles: [{ code: "predecessor" }],
      signatures: { valid: 0, unchecked: 1 },
    });
  });
});
