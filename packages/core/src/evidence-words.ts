/**
 * The check of an evidence file in plain words: what was proved, what was not, and which attacks that rules out (docs/spec,
 * section 8). For people who do not know how it works; the same on a terminal and on a page.
 */
import type { EvidenceReport } from "./evidence-report.ts";

/** Of the rows of the threat model: what one file can say of it. */
export interface AttackAnswer {
  readonly attack: string;
  /** `if_key`: ruled out provided that the key, which only the file names, is the log's. */
  readonly answer: "ruled_out" | "if_key" | "not_ruled_out";
  readonly by: string;
}

export interface EvidenceWords {
  /** One line. */
  readonly headline: string;
  /** What that means. */
  readonly summary: string;
  /** Sentences. */
  readonly proved: readonly string[];
  readonly notProved: readonly string[];
  /** Empty where tampering was found, or the check was not completed: nothing is ruled out then. */
  readonly attacks: readonly AttackAnswer[];
}

export function evidenceWords(report: EvidenceReport): EvidenceWords {
  return {
    ...headlineOf(report),
    proved: provedBy(report),
    notProved: notProvedBy(report),
    attacks: report.verdict === "good" ? attacksOn(report) : [],
  };
}

function headlineOf({ verdict, entries, findings, obstacles, key, log }: EvidenceReport) {
  if (verdict === "tampered") {
    return {
      headline: "Tampering found",
      summary: `${count(findings.length, "thing does", "things do")} not fit. What is named below was changed after the log's key had signed it, or was never part of ${log || "the log"}.`,
    };
  }
  if (verdict === "unchecked") {
    return { headline: "Could not be checked", summary: `Neither good nor bad: ${obstacles[0]!.detail}.` };
  }
  const them = entries === 1 ? "The entry is" : `All ${number(entries)} entries are`;
  return key?.source === "given"
    ? {
        headline: "Everything fits",
        summary: `${them} exactly what the log ${log} recorded, by the key that you gave.`,
      }
    : {
        headline: "Everything fits, by the file's own key",
        summary: `${them} exactly what was signed with the key that the file names. Whether that is the key of ${log} only you can say: compare it with one that you have from elsewhere.`,
      };
}

function provedBy(report: EvidenceReport): string[] {
  const { checkpoint, key, selection, first, last, entries, included, chains, signatures } = report;
  const proved: string[] = [];
  if (checkpoint?.signed) {
    const whose = key?.source === "given" ? "the key that you gave" : "the key that the file names";
    proved.push(`The state of the log at ${count(checkpoint.size, "entry", "entries")} was signed with ${whose}.`);
  }
  // Without a signed checkpoint nothing follows from any proof.
  if (!checkpoint?.signed) return proved;
  if (included > 0) {
    const which =
      included === entries
        ? entries === 1
          ? "The entry"
          : `All ${number(entries)} entries`
        : `${number(included)} of ${number(entries)} entries`;
    proved.push(
      `${which}, byte for byte, ${included === 1 ? "is" : "are"} in that log at the ${included === 1 ? "position" : "positions"} given.`,
    );
  }
  if (report.complete && selection !== undefined) {
    const span =
      selection.to - selection.from === 1
        ? `Position ${selection.from} is`
        : `Positions ${number(selection.from)} to ${number(selection.to - 1)} are`;
    const all =
      selection.from === 0 && selection.to === checkpoint.size ? ", which is the whole log as of that state" : "";
    proved.push(`${span} here without a gap${all}: none was left out, added or moved.`);
  }
  if (report.verdict !== "good") return proved;
  if (report.serviceComplete && entries > 1) {
    proved.push(
      `No entry of service ${selection?.kind === "filter" ? selection.filter.service_id : ""} between the first and the last one here is missing.`,
    );
  }
  if (chains.links > 0) {
    proved.push(
      `The services' chains hold: ${count(chains.links, "entry names", "entries name")} the hash of the service's entry before, or ${chains.links === 1 ? "is" : "are"} its first.`,
    );
  }
  if (entries > 1 && first !== undefined && last !== undefined) {
    proved.push(`The times of recording, ${first.recordedAt} to ${last.recordedAt}, never go backwards.`);
  }
  for (const { witness, time, key: by } of report.cosignatures) {
    const whose = by === "given" ? "whose key you gave" : "whose key only the file names";
    proved.push(
      `The witness ${witness}, ${whose}, says that it saw this state of the log at ${time}, and that until then the log had only grown.`,
    );
  }
  if (report.openings > 0) {
    proved.push(
      `${count(report.openings, "personal value is the one that was", "personal values are those that were")} recorded.`,
    );
  }
  if (signatures.valid > 0) {
    const keys = Object.keys(signatures.keys).join(", ");
    proved.push(
      `${count(signatures.valid, "entry was", "entries were")} signed by the program that published ${signatures.valid === 1 ? "it" : "them"} (${keys}), ${report.keysComplete ? "with a key that was valid then" : "by what this file tells of its keys"}.`,
    );
  }
  return proved;
}

function notProvedBy(report: EvidenceReport): string[] {
  const { key, cosignatures, erased, selection, signatures, entries } = report;
  const open = report.obstacles.map(({ detail }) => `${capital(detail)}.`);
  if (report.verdict === "unchecked" && report.checkpoint === undefined) return open;
  if (key?.source === "file") {
    open.push(
      "Whose key it is: the key comes from the file itself. Whoever made the file could have made a key as well, and a log to go with it.",
    );
  }
  if (!cosignatures.some((one) => one.key === "given")) {
    const some = cosignatures.length > 0 ? "No witness whose key you know has" : "No witness has";
    open.push(`${some} cosigned: that others were shown the same log (no split view) is not shown by this file.`);
  }
  if (report.unknownSigners.length > 0) {
    open.push(`Signatures by ${report.unknownSigners.join(", ")}: their keys are neither in the file nor given.`);
  }
  if (selection?.kind === "filter" && !report.serviceComplete) {
    open.push("That these are all the entries that match: others could have been left out of the file.");
  } else if (selection?.kind === "filter") {
    open.push("That no entry was recorded before the first one here, or after the last.");
  }
  if (selection?.kind === "range" && (selection.asked.from !== undefined || selection.asked.to !== undefined)) {
    open.push(
      "That the positions here are all those of the time that was asked for: look at the entries before and after them.",
    );
  }
  if (erased > 0) {
    const what = erased === 1 ? "One personal value is" : `${number(erased)} personal values are`;
    open.push(
      `${what} not here: erased, or not given to whoever made this file. What is left still proves that something was recorded there, and when.`,
    );
  }
  if (signatures.erased > 0) {
    open.push(
      `${count(signatures.erased, "publisher's signature was", "publishers' signatures were")} erased together with a personal value.`,
    );
  }
  if (signatures.valid > 0 && !report.keysComplete) {
    open.push(
      "That the history of the publishers' keys is complete, so that the keys were valid then: a revocation or another change could have been left out of the file.",
    );
  }
  const signed = signatures.valid + signatures.erased + signatures.unchecked;
  if (signed < entries) {
    open.push(
      `${signed === 0 ? "No entry carries" : `${number(entries - signed)} entries do not carry`} a signature of the program that published ${entries - signed === 1 ? "it" : "them"}: that it said so is the server's word.`,
    );
  } else if (signatures.valid > 0) {
    open.push("That no publisher's key was revoked later than what this file knows.");
  }
  open.push("That what was recorded is true: a log keeps what it was told.");
  return open;
}

function attacksOn(report: EvidenceReport): AttackAnswer[] {
  const answer = report.key?.source === "given" ? "ruled_out" : "if_key";
  // The earliest: what was there by then was there at every later time.
  const [seenBy] = report.cosignatures
    .filter(({ key }) => key === "given")
    .map(({ time }) => time)
    .sort();
  const whole = report.complete || report.serviceComplete;
  return [
    {
      attack: "The application, or someone with its password, rewrote or deleted an entry",
      answer,
      by: whole
        ? "each entry's hash is under the log's signature, and none is missing between the first and the last"
        : "each entry's hash is under the log's signature; an entry that was left out would not be seen",
    },
    {
      attack: "A database administrator changed, deleted or inserted an entry after it had been signed",
      answer,
      by: whole
        ? "the same proof, which no rights in a database can make"
        : "the same proof, for the entries that are here",
    },
    {
      attack: `An administrator who also holds the log's key rewrote the whole log${seenBy === undefined ? "" : ` after ${seenBy}`}`,
      answer: seenBy !== undefined ? answer : "not_ruled_out",
      by:
        seenBy !== undefined
          ? "a witness that you trust had seen this log by then, and cosigns no other history of it"
          : report.signatures.valid > 0
            ? "whoever rewrites the log writes the registrations of the publishers' keys as well: compare these keys with the publishers, or give a witness's key"
            : "it would take a witness's cosignature whose key you give",
    },
    {
      attack: "Different auditors were given different answers",
      answer: seenBy !== undefined ? answer : "not_ruled_out",
      by:
        seenBy !== undefined
          ? "the witness cosigns one history only: whoever asks for its cosignature as well has the same log"
          : "compare the checkpoint with another auditor's: with the same size it must have the same root",
    },
    {
      attack: "The end of the log was cut off, or a backup was restored",
      answer: "not_ruled_out",
      by: "not by one file; but keep it: a log that later has fewer entries than this checkpoint is caught by it",
    },
    {
      attack: seenBy === undefined ? "Entries were backdated" : `Entries were made up after ${seenBy} and backdated`,
      answer: seenBy !== undefined ? answer : "not_ruled_out",
      by:
        seenBy !== undefined
          ? "a witness that you trust had seen them by then; until then, only that times never go backwards is shown"
          : "times never go backwards here, but only a witness could say by when the entries were there",
    },
    {
      attack: "Someone changed a personal value in this file",
      answer,
      by: "each value makes the commitment that stands in its entry, or is shown as missing",
    },
    {
      attack: "Someone brought back a value that had been erased",
      answer: "not_ruled_out",
      by: "whoever kept the value and its salt can put it back; it is the one that was recorded then",
    },
  ];
}

function count(n: number, one: string, many: string): string {
  return `${number(n)} ${n === 1 ? one : many}`;
}

/** In groups of three digits. */
function number(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
