/** What came of the check of a file, as lines for people. */
import type { EvidenceReport } from "@tallystick/core/evidence-report";
import { type AttackAnswer, evidenceWords } from "@tallystick/core/evidence-words";
import type { ExportReport } from "@tallystick/core/export-verify";
import { ownCommand } from "./shell.ts";
import { visible } from "./table.ts";
import type { ReceiptReport } from "./verify-receipt.ts";
import { problemLines } from "./verify-text.ts";

const VERDICTS = { good: "good", tampered: "BAD ", unchecked: "?   " } as const;
const ANSWERS: Record<AttackAnswer["answer"], string> = {
  ruled_out: "ruled out",
  if_key: "ruled out if the key is the log's",
  not_ruled_out: "NOT ruled out",
};

/** `judged`: the verdict with whose key it is taken into account. */
export function evidenceLines(file: string, report: EvidenceReport, judged: EvidenceReport["verdict"]): string[] {
  const { verdict, log, entries, checkpoint, key, findings } = report;
  const words = evidenceWords(report);
  const lines = [
    `${VERDICTS[judged]}  ${file}  ${visible(log)}  ${entries} ${entries === 1 ? "entry" : "entries"}`,
    ...(checkpoint === undefined ? [] : [`      size ${checkpoint.size}, root ${checkpoint.root}`]),
    ...(key === undefined
      ? []
      : [`      by the key ${visible(key.verifierKey)}${key.source === "file" ? " (the file's own)" : ""}`]),
  ];
  let shown: number | null | undefined;
  for (const finding of findings) {
    const { seq, id } = finding;
    if (seq === null || seq !== shown) {
      const entry = seq === null ? "" : `, seq ${seq}${id === null ? "" : `, id ${visible(id)}`}`;
      lines.push(`    log ${visible(log)}${entry}`);
    }
    shown = seq;
    lines.push(...problemLines(finding));
  }
  lines.push(...listed("Proved", words.proved), ...listed("Not proved", words.notProved));
  if (words.attacks.length > 0) lines.push("", "If this had happened:");
  for (const { attack, answer, by } of words.attacks) lines.push(`  ${attack}: ${ANSWERS[answer]} (${visible(by)})`);
  lines.push("", visible(`${verdict === "tampered" ? "TAMPERING FOUND" : words.headline}. ${words.summary}`));
  if (judged !== verdict)
    lines.push("Could not check whose key it is: give the log's by --key, or say --trust-file-key.");
  const next = nextStep(report);
  if (next !== undefined) lines.push(next);
  return lines;
}

function listed(title: string, sentences: readonly string[]): string[] {
  return sentences.length === 0 ? [] : ["", `${title}:`, ...sentences.map((sentence) => `  - ${visible(sentence)}`)];
}

function nextStep({ verdict, key, log, obstacles }: EvidenceReport): string | undefined {
  const tenant = log.slice(log.lastIndexOf("/") + 1).replace(/\.\d+$/, "");
  if (verdict === "tampered") {
    if (!/^[a-z0-9-]{1,63}$/.test(tenant)) return undefined;
    return `Next: was the log changed, or only this file? ${ownCommand(`verify --tenant ${tenant}`)}`;
  }
  if (obstacles.some(({ code }) => code === "incomplete")) return "Next: export it again.";
  if (key?.source === "file") return "Next: check it with a key from a source that you trust, by --key.";
  return undefined;
}

export function receiptLines(file: string, report: ReceiptReport): string[] {
  const { verdict, log, seq, detail, checkpoint, leaf, cosignatures } = report;
  return [
    `${VERDICTS[verdict]}  ${file}  ${visible(log)}${seq === null ? "" : `  seq ${seq}`}`,
    ...(checkpoint === undefined ? [] : [`      size ${checkpoint.size}, root ${checkpoint.root}`]),
    ...cosignatures.map(
      ({ name, time }) => `      cosigned by ${visible(name)} at ${new Date(time * 1_000).toISOString()}`,
    ),
    ...(leaf === undefined ? [] : [`      ${visible(leaf)}`]),
    "",
    `${verdict === "tampered" ? "TAMPERING FOUND: " : verdict === "unchecked" ? "Could not be checked: " : "All good: "}${visible(detail)}.`,
  ];
}

/** Of CSV and NDJSON: whether all of it is there. What is said of it is no proof, and says so. */
export function exportLines(file: string, report: ExportReport): string[] {
  const { state, verdict, rows, detail, manifest, checkpoint, signed } = report;
  const lines = [
    `${VERDICTS[verdict]}  ${file}  ${manifest === undefined ? "" : `${visible(manifest.log)}  `}${rows} ${rows === 1 ? "entry" : "entries"}`,
  ];
  if (manifest !== undefined && checkpoint !== undefined) {
    const { from, to, filter, createdAt } = manifest;
    const by = signed === undefined ? "" : signed ? ", signed by the key that was given" : ", not signed by that key";
    lines.push(
      `      out of positions [${from}, ${to}), exported at ${visible(createdAt)} for ${visible(JSON.stringify(filter))}`,
      `      taken at the checkpoint of size ${checkpoint.size}, root ${checkpoint.root}${by}`,
    );
  }
  const words = { complete: "Complete", changed: "CHANGED OR DAMAGED", broken: "NOT COMPLETE", unknown: "Not checked" };
  lines.push("", `${words[state]}: ${visible(detail)}.`);
  if (state === "complete") {
    lines.push(
      "A manifest is no proof: whoever changes a file can write another. Evidence is proof (--format evidence).",
    );
  } else lines.push("Next: export it again.");
  return lines;
}
