import { describe, expect, test } from "vitest";
import { type ExportFacts, ExportSeal, type ExportType } from "../src/export-file.ts";
import { type ExportReport, ExportVerifier } from "../src/export-verify.ts";
import type { VerifierKey } from "../src/note.ts";
import { variedLog } from "../src/testing/evidence.ts";
import { parseVerifierKey } from "../src/verifier-key.ts";

const log = variedLog(5);
const header = JSON.parse(log.evidence().split("\n")[0]!) as { log: string; checkpoint: string };
const logKey = parseVerifierKey(log.verifierKey);

const ROWS: Readonly<Record<ExportType, { readonly head: string; readonly rows: readonly string[] }>> = {
  csv: { head: "seq,reason\r\n", rows: ["0,a\r\n", '1,"b\r\n""#manifest ""\r\n"\r\n', "2,\r\n", "3,d\r\n"] },
  ndjson: { head: "", rows: ['{"id":"a"}\n', '{"id":"b"}\n', '{"id":"{\\"manifest\\":"}\n', '{"id":"d"}\n'] },
};

function fileOf(type: ExportType, facts: Partial<ExportFacts> = {}): string {
  const seal = new ExportSeal({
    ...{ type, log: header.log, filter: { action: "user.*" }, from: 0, to: 5, checkpoint: header.checkpoint },
    ...{ createdAt: "2026-03-01T00:00:00.000000Z", generator: "test" },
    ...(type === "csv" && { columns: ["seq", "reason"] }),
    ...facts,
  });
  const { head, rows } = ROWS[type];
  const parts = [seal.add(head, 0), ...rows.map((row) => seal.add(row, 1)), seal.manifest()];
  return Buffer.concat(parts).toString();
}

function check(type: ExportType, file: string, key?: VerifierKey, pieces = 7): ExportReport {
  const verifier = new ExportVerifier(type, key);
  const bytes = Buffer.from(file);
  for (let at = 0; at < bytes.length; at += pieces) verifier.write(bytes.subarray(at, at + pieces));
  return verifier.report();
}

describe.each(["csv", "ndjson"] as const)("ExportVerifier, %s", (type) => {
  const file = fileOf(type);
  const lastRecord = file.lastIndexOf(type === "csv" ? '"#manifest {' : '{"manifest":{');
  const manifest = file.slice(lastRecord);

  test("finds a file complete, in pieces of any size, by the log's key or without", () => {
    for (const pieces of [1, 7, 100_000]) {
      expect(check(type, file, undefined, pieces)).toMatchObject({ state: "complete", verdict: "good", rows: 4 });
    }
    expect(check(type, file, logKey)).toMatchObject({ state: "complete", signed: true, checkpoint: { size: 5 } });
  });

  test("finds every file that was cut off not complete", () => {
    for (let length = 0; length < file.length; length++) {
      const { state, verdict } = check(type, file.slice(0, length), undefined, 100_000);
      expect([length, state, verdict]).toEqual([length, "broken", "unchecked"]);
    }
  });

  test("finds every byte that was changed before the manifest", () => {
    for (let at = 0; at < lastRecord; at++) {
      const other = String.fromCharCode(file.charCodeAt(at) ^ 1);
      const { verdict } = check(type, file.slice(0, at) + other + file.slice(at + 1), undefined, 100_000);
      expect([at, verdict]).not.toEqual([at, "good"]);
    }
  });

  test("finds entries that were taken out, added or moved, and what follows the manifest", () => {
    const { head, rows } = ROWS[type];
    for (const changed of [
      head + rows.slice(1).join("") + manifest,
      head + rows.join("") + rows[0] + manifest,
      head + rows.toReversed().join("") + manifest,
      file + rows[0],
      `${file} `,
      file + manifest,
    ]) {
      expect(check(type, changed)).toMatchObject({ state: "changed", verdict: "tampered" });
    }
  });

  test("finds a manifest that does not agree with the file, or with itself", () => {
    const said = (from: string, to: string) => {
      const changed = file.slice(0, lastRecord) + manifest.replace(from, to);
      expect(changed).not.toBe(file);
      return check(type, changed);
    };
    const quote = type === "csv" ? '""' : '"';
    expect(said(`${quote}rows${quote}:4`, `${quote}rows${quote}:3`)).toMatchObject({
      state: "changed",
      detail: "the manifest says 3 entries, and 4 are here",
    });
    expect(said(`${quote}rows${quote}:4`, `${quote}rows${quote}:-1`).state).toBe("changed");
    expect(said("tallystick-export/v1", "tallystick-export/v2")).toMatchObject({
      state: "unknown",
      verdict: "unchecked",
    });
    expect(said(`${quote}checkpoint${quote}:${quote}`, `${quote}checkpoint${quote}:${quote}x`).state).toBe("complete");
    expect(check(type, fileOf(type, { checkpoint: "none" }))).toMatchObject({ state: "changed" });
    expect(check(type, fileOf(type, { to: 6 })).detail).toContain("smaller log");
  });

  test("asks for the signature of the key that is given", () => {
    const forged = parseVerifierKey(variedLog(1).verifierKey);
    const other = { ...forged, name: logKey.name };
    expect(check(type, fileOf(type, { log: "elsewhere" }), logKey)).toMatchObject({ state: "unknown" });
    expect(check(type, file, { ...other, publicKey: new Uint8Array(32).fill(1) })).toMatchObject({
      state: "changed",
      signed: false,
    });
  });

  test("takes rubbish for no export", () => {
    for (const rubbish of ["", "hello\n", "\0\0\0", '"#manifest \n', '{"manifest":\n', "x".repeat(100_000)]) {
      expect(check(type, rubbish, undefined, 1_000).verdict, rubbish.slice(0, 20)).not.toBe("good");
    }
  });
});
