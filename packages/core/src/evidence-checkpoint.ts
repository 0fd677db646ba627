/**
 * The checkpoint of an evidence file: who signed it, and which witnesses saw it.
 */
import { toBase64 } from "./base64.ts";
import { type Checkpoint, openCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import { openCosignatures } from "./cosignature.ts";
import type { EvidenceHeader } from "./evidence.ts";
import type { EvidenceFindings } from "./evidence-findings.ts";
import type { EvidenceCosignature, EvidenceReport } from "./evidence-report.ts";
import { identity, NoteError, parseNote, type VerifierKey } from "./note.ts";
import { type CosignerKey, formatVerifierKey, parseCosignerKey, parseVerifierKey } from "./verifier-key.ts";

/** By how much a witness's clock may be ahead of ours. */
const MAX_AHEAD_SECONDS = 86_400;

/** Whose word counts. What is not given is taken from the file, and the report says so. */
export interface EvidenceTrust {
  /** The log's key. Its name is the log's. */
  readonly logKey?: VerifierKey | undefined;
  readonly witnessKeys?: readonly CosignerKey[] | undefined;
  /** How many of the witnesses that are given must have cosigned; 0 unless given. */
  readonly witnessQuorum?: number | undefined;
  /** When it is checked; the clock's time unless given. */
  readonly now?: Date | undefined;
}

/** What the entries of a file are checked against. */
export interface EvidenceHead {
  readonly checkpoint: Checkpoint;
  /** Whether the log's key signed it. Where not, what follows from it is still worth knowing: which entry fits and which not. */
  readonly signed: boolean;
  readonly key: EvidenceReport["key"];
  readonly cosignatures: readonly EvidenceCosignature[];
  readonly unknownSigners: readonly string[];
}

/** Reads the checkpoint and checks its signatures; what is wrong goes to `findings`. Undefined where it is no checkpoint. */
export function openEvidenceHead(
  header: EvidenceHeader,
  trust: EvidenceTrust,
  findings: EvidenceFindings,
): EvidenceHead | undefined {
  let checkpoint: Checkpoint;
  try {
    checkpoint = parseCheckpoint(parseNote(header.checkpoint).text);
  } catch (error) {
    findings.find({ kind: "checkpoint", detail: `the checkpoint is none: ${(error as Error).message}` });
    return undefined;
  }
  const key = keyOf(header, trust.logKey, findings);
  const signed = key !== undefined && isSigned(header, key, trust, findings);
  if (signed && trust.logKey !== undefined) requireSameKey(header, key, findings);
  return {
    checkpoint,
    signed,
    key: key && { source: trust.logKey === undefined ? "file" : "given", verifierKey: formatVerifierKey(key) },
    ...openWitnesses(header, trust, findings),
  };
}

function keyOf(
  { log, verifierKey }: EvidenceHeader,
  given: VerifierKey | undefined,
  findings: EvidenceFindings,
): VerifierKey | undefined {
  if (given !== undefined) {
    if (given.name === log) return given;
    findings.obstruct("other_log", `the evidence is of log ${log}, and the key that was given is of ${given.name}`);
    return undefined;
  }
  try {
    const key = parseVerifierKey(verifierKey);
    if (key.name === log) return key;
    const facts = { field: "verifier_key", stored: key.name, expected: log };
    findings.find({ kind: "checkpoint", ...facts, detail: "the key in the file is another log's" });
  } catch (error) {
    findings.find({
      kind: "checkpoint",
      field: "verifier_key",
      detail: `the file's key is none: ${(error as Error).message}`,
    });
  }
  return undefined;
}

/** Of a file that is signed by the key that was given: other readers go by the one that it names. */
function requireSameKey({ verifierKey: named }: EvidenceHeader, given: VerifierKey, findings: EvidenceFindings): void {
  const expected = formatVerifierKey(given);
  if (named === expected) return;
  const detail = "the key that the file names is not the one that was given";
  findings.find({ kind: "checkpoint", field: "verifier_key", stored: named, expected, detail });
}

function isSigned(
  { checkpoint, log, verifierKey }: EvidenceHeader,
  key: VerifierKey,
  { logKey: given }: EvidenceTrust,
  findings: EvidenceFindings,
): boolean {
  try {
    openCheckpoint(checkpoint, key, log);
    return true;
  } catch (error) {
    const whose = given === undefined ? "the key in the file" : "the key that was given";
    findings.find({
      kind: "checkpoint",
      ...(given !== undefined && { field: "verifier_key", stored: verifierKey, expected: formatVerifierKey(given) }),
      detail: `the checkpoint is not signed by ${whose}: ${(error as Error).message}`,
    });
    return false;
  }
}

function openWitnesses(
  { checkpoint: note, log, witnessKeys: named }: EvidenceHeader,
  { witnessKeys: given = [], witnessQuorum = 0, now = new Date() }: EvidenceTrust,
  findings: EvidenceFindings,
): Pick<EvidenceHead, "cosignatures" | "unknownSigners"> {
  const known = new Set(given.map(formatVerifierKey));
  const ofFile: CosignerKey[] = [];
  for (const text of named) {
    if (known.has(text)) continue;
    try {
      ofFile.push(parseCosignerKey(text));
    } catch (error) {
      const detail = `the file's key of a witness is none: ${(error as Error).message}`;
      findings.find({ kind: "cosignature", field: "witness_keys", stored: text, detail });
    }
  }
  try {
    const found = openCosignatures(note, [...given, ...ofFile]);
    const byGiven = found.filter(({ key }) => known.has(formatVerifierKey(key)));
    const ahead = byGiven.find(({ time }) => time > now.getTime() / 1_000 + MAX_AHEAD_SECONDS);
    if (ahead !== undefined) {
      const detail = `the witness ${ahead.name} says that it saw the checkpoint at ${timeOf(ahead.time)}, which is to come`;
      findings.obstruct("cosignature_time", detail);
    }
    // A cosignature does not commit to a name: one key under two names is one witness.
    const witnesses = new Set(byGiven.map(({ key }) => toBase64(key.publicKey))).size;
    if (witnesses < witnessQuorum) {
      const count = `${witnesses} of the witnesses that were given ${witnesses === 1 ? "has" : "have"} cosigned`;
      findings.obstruct("quorum", `${count}, ${witnessQuorum} are required`);
    }
    const signers = new Set([...given, ...ofFile].map(identity));
    const others = parseNote(note).signatures.filter((by) => by.name !== log && !signers.has(identity(by)));
    return {
      cosignatures: found.map((one) => ({
        witness: one.name,
        time: timeOf(one.time),
        key: byGiven.includes(one) ? "given" : "file",
      })),
      unknownSigners: others.map(({ name }) => name),
    };
  } catch (error) {
    if (!(error instanceof NoteError)) throw error;
    findings.find({ kind: "cosignature", detail: error.message });
    return { cosignatures: [], unknownSigners: [] };
  }
}

function timeOf(seconds: number): string {
  const time = new Date(seconds * 1_000);
  return Number.isNaN(time.getTime()) ? `${seconds} s after 1970` : time.toISOString().replace(".000Z", "Z");
}
