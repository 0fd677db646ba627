import { describe, expect, test } from "vitest";
import type { EvidenceTrust } from "../src/evidence-checkpoint.ts";
import { EvidenceVerifier } from "../src/evidence-verify.ts";
import { evidenceWords } from "../src/evidence-words.ts";
import { testWitness, variedLog } from "../src/testing/evidence.ts";
import { formatVerifierKey, parseVerifierKey } from "../src/verifier-key.ts";

function wordsFor(file: string, trust: EvidenceTrust = {}) {
  const verifier = new EvidenceVerifier(trust);
  verifier.write(file);
  const words = evidenceWords(verifier.report());
  return {
    ...words,
    text: [...words.proved, ...words.notProved].join("\n"),
    answers: words.attacks.map(({ answer }) => answer),
  };
}

const log = variedLog(9);
const logKey = parseVerifierKey(log.verifierKey);
const witness = testWitness();
const seen = { witnesses: [{ by: witness, time: 1_770_000_000 }] };

describe("evidenceWords() claims no more than was proved", () => {
  test("by the file's own key, everything is on condition", () => {
    const { headline, answers, text } = wordsFor(log.evidence());
    expect(headline).toBe("Everything fits, by the file's own key");
    expect(answers).not.toContain("ruled_out");
    expect(text).toContain("Whoever made the file could have made a key as well");
  });

  test("without a witness, neither a rewritten log nor a split view nor backdating is ruled out", () => {
    const { attacks, text } = wordsFor(log.evidence(), { logKey });
    const open = attacks.filter(({ answer }) => answer === "not_ruled_out").map(({ attack }) => attack);
    expect(open).toEqual([
      "An administrator who also holds the log's key rewrote the whole log",
      "Different auditors were given different answers",
      "The end of the log was cut off, or a backup was restored",
      "Entries were backdated",
      "Someone brought back a value that had been erased",
    ]);
    expect(text).toContain("No witness has cosigned");
  });

  test("a witness whose key only the file names rules out nothing more", () => {
    const file = log.evidence({ ...seen, witnessKeys: [formatVerifierKey(witness.key)] });
    const { answers, text } = wordsFor(file, { logKey });
    expect(answers.filter((answer) => answer === "not_ruled_out")).toHaveLength(5);
    expect(text).toContain("No witness whose key you know has cosigned");
  });

  test("what a known witness rules out is said with its time", () => {
    const { attacks, text } = wordsFor(log.evidence(seen), { logKey, witnessKeys: [witness.key] });
    expect(attacks.filter(({ answer }) => answer === "not_ruled_out")).toHaveLength(2);
    expect(attacks.map(({ attack }) => attack)).toContain(
      "Entries were made up after 2026-02-02T02:40:00Z and backdated",
    );
    expect(text).not.toContain("No witness");
  });

  test("of a filter, completeness is not claimed; of a service, only between its first and last entry", () => {
    const filtered = wordsFor(log.evidence({ only: [1, 5], filter: { action: "user.*" } }), { logKey });
    expect(filtered.text).toContain("others could have been left out");
    expect(filtered.text).not.toContain("without a gap");
    const service = wordsFor(log.evidence({ only: [0, 3, 6], filter: { service_id: "orders" } }), { logKey });
    expect(service.text).toContain("No entry of service orders between the first and the last one here is missing.");
    expect(service.text).toContain("That no entry was recorded before the first one here, or after the last.");
  });

  test("of a tampered or a broken file nothing is ruled out", () => {
    const tampered = wordsFor(log.evidence().replace("order.create", "order.delete"), { logKey });
    expect(tampered).toMatchObject({ headline: "Tampering found", attacks: [] });
    expect(tampered.text).toContain("8 of 9 entries, byte for byte, are in that log");
    const cut = wordsFor(log.evidence().slice(0, -20), { logKey });
    expect(cut).toMatchObject({ headline: "Could not be checked", attacks: [] });
    expect(cut.text).not.toContain("byte for byte");
    expect(wordsFor("").attacks).toEqual([]);
  });
});
