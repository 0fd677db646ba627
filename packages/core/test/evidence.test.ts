import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../src/canonical.ts";
import { EvidenceWriter, parseEvidenceLine } from "../src/evidence.ts";
import type { EvidenceTrust } from "../src/evidence-checkpoint.ts";
import type { EvidenceReport } from "../src/evidence-report.ts";
import { EvidenceVerifier } from "../src/evidence-verify.ts";
import { evidenceWords } from "../src/evidence-words.ts";
import { sha256Hex } from "../src/sha256.ts";
import { LOG, SmallLog, testWitness, variedLog } from "../src/testing/evidence.ts";
import { formatVerifierKey, noteSigner, parseVerifierKey } from "../src/verifier-key.ts";

function check(file: string | Uint8Array, trust: EvidenceTrust = {}): EvidenceReport {
  const verifier = new EvidenceVerifier(trust);
  verifier.write(file);
  return verifier.report();
}

/** The file with its manifest made anew: what a forger can do, who knows the format. */
function reseal(file: string): string {
  const lines = file.split("\n").slice(0, -2);
  const manifest = JSON.parse(file.split("\n").at(-2)!) as Record<string, unknown>;
  const entries = lines.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "entry");
  const body = lines.map((line) => `${line}\n`).join("");
  const openings = entries.reduce((sum, entry) => sum + entry.openings.length, 0);
  const committed = entries.reduce((sum, { leaf }) => sum + leaf.split('{"$committed":"').length - 1, 0);
  return `${body}${JSON.stringify({ ...manifest, entries: entries.length, erased: committed - openings, openings, sha256: sha256Hex(body) }, Object.keys(manifest).sort())}\n`;
}

/** The file with one of its lines changed, and its manifest made anew. */
function forge(file: string, index: number, change: (line: Record<string, unknown>) => void): string {
  const lines = file.split("\n");
  const line = JSON.parse(lines[index]!) as Record<string, unknown>;
  change(line);
  lines[index] = canonicalize(line as never).replaceAll("<", "\\u003c");
  return reseal(lines.join("\n"));
}

const log = variedLog(11);
const logKey = parseVerifierKey(log.verifierKey);
const whole = log.evidence();

describe("EvidenceVerifier on good files", () => {
  test("proves a whole log, and says whose key that rests on", () => {
    expect(check(whole)).toMatchObject({
      verdict: "good",
      findings: [],
      obstacles: [],
      log: LOG,
      key: { source: "file", verifierKey: log.verifierKey },
      checkpoint: { size: 11, signed: true },
      entries: 11,
      included: 11,
      complete: true,
      erased: 0,
      openings: 9,
      chains: { services: 2, links: 11 },
      first: { seq: 0 },
      last: { seq: 10 },
    });
    expect(check(whole, { logKey })).toMatchObject({ verdict: "good", key: { source: "given" } });
  });

  test("proves any range of any log, cut anywhere into pieces", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.nat(),
        fc.nat(),
        fc.integer({ min: 1, max: 999 }),
        (size, a, b, step) => {
          const from = a % size;
          const to = from + 1 + (b % (size - from));
          const file = variedLog(size).evidence({ from, to });
          const verifier = new EvidenceVerifier({ logKey });
          if (step % 2 === 0) {
            const bytes = new TextEncoder().encode(file);
            for (let i = 0; i < bytes.length; i += step) verifier.write(bytes.subarray(i, i + step));
          } else for (let i = 0; i < file.length; i += step) verifier.write(file.slice(i, i + step));
          const report = verifier.report();
          expect(report).toMatchObject({ verdict: "good", complete: true, included: to - from });
        },
      ),
      { numRuns: 60 },
    );
  });

  test("proves entries one by one where a filter chose them, and claims no completeness", () => {
    const report = check(log.evidence({ only: [1, 5, 9], filter: { action: "user.*" } }));
    expect(report).toMatchObject({ verdict: "good", included: 3, complete: false, serviceComplete: false });
  });

  test("of one service, its chain shows that none between the first and the last is missing", () => {
    const filter = { service_id: "orders" };
    expect(check(log.evidence({ only: [0, 3, 6, 9], filter }))).toMatchObject({
      verdict: "good",
      serviceComplete: true,
    });
    const { verdict, findings } = check(log.evidence({ only: [0, 3, 9], filter }));
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([{ seq: 9, kind: "missing", field: "service.seq", stored: "3", expected: "2" }]);
    // Where more than the service was asked for, a gap is nothing.
    const more = { ...filter, action: "order.create" };
    expect(check(log.evidence({ only: [0, 6], filter: more })).verdict).toBe("good");
  });

  test("names an entry that is not what the file says it was asked for", () => {
    const filtered = check(log.evidence({ only: [0, 1, 3], filter: { service_id: "orders" } }));
    expect(filtered.findings).toMatchObject([{ seq: 1, kind: "selection" }]);
    const login = { action: "user.login", ip: "192.0.2.7", outcome: "success", occurred_from: "2026-01-31" };
    expect(check(log.evidence({ only: [5], filter: login })).verdict).toBe("good");
    expect(check(log.evidence({ only: [5], filter: { ...login, ip: "192.0.2.8" } })).verdict).toBe("tampered");
    expect(check(log.evidence({ only: [5], filter: { ...login, to: "2026-01-30" } })).verdict).toBe("tampered");
    // An address that has been erased since may have been any.
    const erased = variedLog(11);
    erased.erase(5, "/event/context/ip");
    expect(check(erased.evidence({ only: [5], filter: login })).verdict).toBe("good");
    const newer = check(log.evidence({ only: [5], filter: { colour: "red" } }));
    expect(newer).toMatchObject({ verdict: "unchecked", obstacles: [{ code: "newer" }] });
  });

  test("takes no cosignature of a time at which a given witness cannot have seen the log", () => {
    const witness = testWitness();
    const [recorded, now] = [Date.UTC(2026, 0, 31, 12) / 1_000 + 10, new Date("2026-06-01")];
    const at = (time: number) => {
      const file = log.evidence({ witnesses: [{ by: witness, time }], witnessKeys: [formatVerifierKey(witness.key)] });
      expect(check(file, { logKey, now })).toMatchObject({ verdict: "good" }); // nothing rests on it
      const { verdict, obstacles } = check(file, { logKey, witnessKeys: [witness.key], now });
      return { verdict, codes: obstacles.map(({ code }) => code) };
    };
    const impossible = { verdict: "unchecked", codes: ["cosignature_time"] };
    expect(at(recorded)).toEqual({ verdict: "good", codes: [] });
    expect(at(recorded - 60)).toEqual({ verdict: "good", codes: [] });
    expect(at(recorded - 3_600)).toEqual(impossible);
    expect(at(1)).toEqual(impossible);
    expect(at(now.getTime() / 1_000 + 3_600)).toEqual({ verdict: "good", codes: [] });
    expect(at(now.getTime() / 1_000 + 90_000)).toEqual(impossible);
    expect(at(99_999_999_999)).toEqual(impossible);
  });

  test("counts erased values, and proves the rest", () => {
    const erased = variedLog(11);
    erased.erase(5, "/event/actor/name");
    erased.erase(5, "/event/actor/email");
    expect(check(erased.evidence({ from: 2, to: 8 }))).toMatchObject({ verdict: "good", erased: 2, openings: 1 });
  });

  test("says which witnesses saw the checkpoint, when, and by whose word", () => {
    const [one, other] = [testWitness("one.example"), testWitness("other.example")];
    const file = log.evidence({
      witnesses: [
        { by: one, time: 1_770_000_000 },
        { by: other, time: 1_770_000_060 },
      ],
      witnessKeys: [formatVerifierKey(other.key)],
    });
    expect(check(file, { witnessKeys: [one.key], witnessQuorum: 1 })).toMatchObject({
      verdict: "good",
      cosignatures: [
        { witness: "one.example", time: "2026-02-02T02:40:00Z", key: "given" },
        { witness: "other.example", time: "2026-02-02T02:41:00Z", key: "file" },
      ],
      unknownSigners: [],
    });
    expect(check(file).unknownSigners).toEqual(["one.example"]);
    expect(check(file, { witnessKeys: [one.key], witnessQuorum: 2 })).toMatchObject({
      verdict: "unchecked",
      obstacles: [{ code: "quorum" }],
    });
    expect(() => new EvidenceVerifier({ witnessQuorum: Number.NaN })).toThrow(RangeError);
  });
});

describe("EvidenceVerifier on forged files", () => {
  test("names the entry whose bytes were changed, and what they were", () => {
    const file = forge(whole, 4, (line) => {
      line.leaf = (line.leaf as string).replace("order.create", "order.delete");
    });
    const { verdict, findings, included, complete } = check(file);
    expect(verdict).toBe("tampered");
    expect(findings).toMatchObject([
      { seq: 3, kind: "leaf", field: "leaf_hash", expected: JSON.parse(whole.split("\n")[4]!).leaf_hash },
    ]);
    expect({ included, complete }).toEqual({ included: 10, complete: true });
  });

  test("finds an entry that was changed together with its hash", () => {
    const file = forge(whole, 4, (line) => {
      line.leaf = (line.leaf as string).replace("order.create", "order.delete");
      line.leaf_hash = sha256Hex(`\0${line.leaf}`);
    });
    const { findings, included } = check(file);
    expect(findings).toMatchObject([{ seq: 6, kind: "chain" }, { kind: "range" }]);
    expect(included).toBe(0);
    const filtered = forge(log.evidence({ only: [3, 5] }), 1, (line) => {
      line.leaf = (line.leaf as string).replace("order.create", "order.delete");
      line.leaf_hash = sha256Hex(`\0${line.leaf}`);
    });
    expect(check(filtered).findings).toMatchObject([{ seq: 3, kind: "inclusion" }]);
    expect(check(filtered).included).toBe(1);
  });

  test.each([
    ["taken out of the middle", (lines: string[]) => lines.splice(5, 1), "missing"],
    ["taken off the end", (lines: string[]) => lines.splice(-3, 1), "missing"],
    ["swapped", (lines: string[]) => lines.splice(4, 2, lines[5]!, lines[4]!), "missing"],
    ["there twice", (lines: string[]) => lines.splice(5, 0, lines[5]!), "order"],
  ])("finds an entry that was %s", (_, change, kind) => {
    const lines = whole.split("\n");
    change(lines);
    const { verdict, findings, complete } = check(reseal(lines.join("\n")));
    expect(verdict).toBe("tampered");
    expect(findings.map((finding) => finding.kind)).toContain(kind);
    expect(complete).toBe(false);
  });

  test("finds a value that is not the one that was recorded", () => {
    const file = forge(whole, 2, (line) => {
      const [email] = line.openings as { value: string }[];
      email!.value = '"eve@example.com"';
    });
    const { findings } = check(file);
    expect(findings).toMatchObject([{ seq: 1, kind: "opening", field: "/event/actor/email" }]);
  });

  test("finds what the log's own key vouches for: backdating, broken chains, foreign and malformed leaves", () => {
    const bad = variedLog(5);
    const parsed = JSON.parse(bad.leaves[4]!.leaf) as { event: object; service: object };
    const next = {
      ...parsed,
      seq: 5,
      recorded_at: "2020-01-01T00:00:00.000000Z",
      service: { id: "new", seq: 3, prev: "f".repeat(64) },
    };
    bad.push(canonicalize(next as never));
    bad.push(canonicalize({ ...next, seq: 6, log: "example.com/other" } as never));
    bad.push(`${canonicalize({ ...next, seq: 7 } as never)} `);
    const { findings, complete } = check(bad.evidence());
    expect(findings.map(({ seq, kind, field }) => [seq, kind, field])).toEqual([
      [5, "order", "recorded_at"],
      [5, "missing", "service.seq"],
      [6, "leaf", "log"],
      [6, "chain", "service.seq"],
      [7, "leaf", undefined],
    ]);
    expect(complete).toBe(true);
  });

  test("with the key that was given, finds a file that someone else signed", () => {
    const other = formatVerifierKey(noteSigner(LOG, new Uint8Array(32)).key);
    expect(check(whole, { logKey: parseVerifierKey(other) })).toMatchObject({
      verdict: "tampered",
      findings: [{ kind: "checkpoint", field: "verifier_key", stored: log.verifierKey, expected: other }],
      checkpoint: { signed: false },
    });
    const renamed = forge(whole, 0, (line) => {
      line.verifier_key = other;
    });
    expect(check(renamed, { logKey })).toMatchObject({
      verdict: "tampered",
      findings: [{ kind: "checkpoint", field: "verifier_key", stored: other, expected: log.verifierKey }],
      checkpoint: { signed: true },
    });
    const { key } = noteSigner("example.com/other", new Uint8Array(32));
    expect(check(whole, { logKey: key })).toMatchObject({ verdict: "unchecked", obstacles: [{ code: "other_log" }] });
  });
});

describe("EvidenceVerifier on files that cannot be checked", () => {
  test("a file that was cut off anywhere is never good", () => {
    const bytes = new TextEncoder().encode(log.evidence({ from: 0, to: 3 }));
    for (let length = 0; length < bytes.length; length += 1) {
      const report = check(bytes.subarray(0, length));
      expect(report).toMatchObject({ verdict: "unchecked", complete: false, obstacles: [{ code: "incomplete" }] });
    }
  });

  test("bytes after the manifest, other formats and newer ones", () => {
    expect(check(`${whole}{}\n`).obstacles).toMatchObject([{ code: "malformed" }]);
    expect(check(`${whole} `).obstacles).toMatchObject([{ code: "malformed" }]);
    expect(check("<!doctype html>\n").obstacles).toMatchObject([{ code: "malformed" }]);
    expect(check(whole.replace("evidence/v1", "evidence/v2")).obstacles).toMatchObject([{ code: "newer" }]);
    const newer = forge(whole, 3, (line) => {
      line.note = "new";
    });
    expect(check(newer).obstacles).toMatchObject([{ code: "newer", detail: expect.stringContaining("line 4") }]);
    expect(check("x".repeat(17 * 2 ** 20)).obstacles).toMatchObject([{ code: "malformed" }]);
  });

  test("a leaf of a newer version is proved and not understood", () => {
    const bad = variedLog(3);
    bad.push(canonicalize({ ...JSON.parse(bad.leaves[2]!.leaf), v: 2, seq: 3, event: "new" }));
    const report = check(bad.evidence());
    expect(report).toMatchObject({ verdict: "unchecked", included: 4, complete: true, obstacles: [{ code: "newer" }] });
  });
});

test("a file with any byte changed is never good", () => {
  const erased = variedLog(6);
  erased.erase(5, "/event/actor/name");
  const witness = testWitness();
  const options = { witnesses: [{ by: witness, time: 1 }], witnessKeys: [formatVerifierKey(witness.key)] };
  for (const file of [erased.evidence({ ...options, from: 4, to: 6 }), erased.evidence({ ...options, only: [5] })]) {
    const bytes = new TextEncoder().encode(file);
    for (let i = 0; i < bytes.length; i += 1) {
      const changed = bytes.slice();
      changed[i]! ^= 1 << (i % 8);
      expect(check(changed).verdict, `byte ${i}`).not.toBe("good");
    }
  }
});

test("a forger who makes the manifest anew is found, whatever leaf, hash, proof or opening is changed", () => {
  const file = log.evidence({ from: 1, to: 7 });
  const lines = file.split("\n").length - 2;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: lines - 1 }),
      fc.nat(),
      fc.integer({ min: 1, max: 127 }),
      (index, at, flip) => {
        const forged = forge(file, index, (line) => {
          const [opening] = line.openings as { value: string }[];
          const holder = (at % 3 === 0 && opening !== undefined ? opening : line) as Record<string, string>;
          const name = holder === line ? (at % 3 === 1 ? "leaf_hash" : "leaf") : "value";
          const text = holder[name]!;
          const i = at % text.length;
          holder[name] = text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ flip) + text.slice(i + 1);
        });
        expect(check(forged, { logKey }).verdict).not.toBe("good");
      },
    ),
    { numRuns: 300 },
  );
});

test("no leaf that the log's key vouches for makes the check fail", () => {
  const members = ["v", "log", "seq", "id", "recorded_at", "service", "event", "publisher"] as const;
  const inEvent = ["action", "actor", "resource", "context", "metadata", "changes", "related"] as const;
  const anything = fc.jsonValue({ maxDepth: 4 });
  fc.assert(
    fc.property(fc.constantFrom(...members, ...inEvent), anything, fc.boolean(), (name, value, alone) => {
      const hostile = variedLog(2);
      const leaf = JSON.parse(hostile.leaves[1]!.leaf) as Record<string, Record<string, unknown>>;
      const holder = (members as readonly string[]).includes(name) ? leaf : leaf.event!;
      holder[name] = value as never;
      const { openings } = hostile.leaves[1]!;
      hostile.push(canonicalize((alone ? value : leaf) as never), openings);
      for (const file of [hostile.evidence(), hostile.evidence({ only: [2] })]) {
        expect(["good", "tampered", "unchecked"]).toContain(check(file).verdict);
        evidenceWords(check(file));
      }
    }),
    { numRuns: 500 },
  );
});

describe("lines", () => {
  test("no value can end the script element that a line stands in", () => {
    const hostile = new SmallLog([
      { action: "x", actor: { id: "</script><!--<script>\u2028\u2029]]>", name: "<b>&amp;" } },
    ]);
    const file = hostile.evidence();
    expect(file).not.toContain("<");
    expect(check(file).verdict).toBe("good");
    const entry = parseEvidenceLine(file.split("\n")[1]!);
    expect(entry).toMatchObject({
      kind: "entry",
      leaf: hostile.leaves[0]!.leaf,
      openings: hostile.leaves[0]!.openings,
    });
  });

  test("only one spelling is taken", () => {
    const line = new EvidenceWriter().manifest().trimEnd();
    expect(parseEvidenceLine(line)).toMatchObject({ kind: "manifest", entries: 0 });
    for (const other of [
      ` ${line}`,
      line.replace(":0", ":0.0"),
      line.replace("{", '{"entries":1,'),
      line.replace("manifest", "m\\u0061nifest"),
    ]) {
      expect(() => parseEvidenceLine(other)).toThrow(expect.objectContaining({ code: "malformed" }));
    }
  });
});
