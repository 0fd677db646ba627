/**
 * The check of an evidence file: pure but for the clock, unless it is told the time; and in memory that does not grow with the file, but with the number of services and of
 * the server's own entries, such as those about publishers' keys.
 */
import { sha256Stream } from "#sha256-stream";
import {
  type EvidenceEntry,
  EvidenceError,
  type EvidenceHeader,
  type EvidenceLine,
  type EvidenceManifest,
  parseEvidenceLine,
} from "./evidence.ts";
import { EvidenceChains } from "./evidence-chains.ts";
import { type EvidenceHead, type EvidenceTrust, openEvidenceHead } from "./evidence-checkpoint.ts";
import { type OpenedEntry, openEntry, seqOf } from "./evidence-entry.ts";
import { EvidenceFindings } from "./evidence-findings.ts";
import { EvidenceHistory, factsOf } from "./evidence-history.ts";
import { alteration, EvidencePlaces } from "./evidence-place.ts";
import type { EvidenceFinding, EvidenceObstacle, EvidenceReport } from "./evidence-report.ts";
import { matcherOf } from "./filter.ts";
import { type FilterError, filterOf } from "./filter-parameters.ts";
import { toHex } from "./hex.ts";
import { decodeUtf8 } from "./json.ts";
import type { Leaf } from "./leaf.ts";
import { LineSplitter } from "./line-splitter.ts";
import { verifyPublisher } from "./publisher.ts";
import { PublisherError } from "./publisher-error.ts";
import { isInherited } from "./publisher-keys.ts";
import { leafHash } from "./tree.ts";

/** Longer than any line can be whose leaf is one: what is longer is refused before it fills memory. */
const MAX_LINE_BYTES = 16 * 2 ** 20;
const NEWLINE = new Uint8Array([0x0a]);

/** By how much a witness's clock may be behind the database's. */
const MAX_BEHIND_MS = 5 * 60_000;

/** What may come behind a line of each kind. */
const NEXT = {
  header: "logs",
  predecessor: "logs",
  key_history: "keys",
  entry: "entries",
  manifest: "nothing",
} as const;

/** Parameters that select by position and by nothing else: with these alone a selection is a range. */
export const RANGE_PARAMETERS: readonly string[] = ["from", "to", "from_seq", "to_seq"];

/** An entry as it was found, to be shown. */
export interface CheckedEntry {
  readonly line: EvidenceEntry;
  /** Its position; null where it cannot be told. */
  readonly seq: number | null;
  /** Undefined where the leaf is none, or of a version that is not known. */
  readonly entry: OpenedEntry | undefined;
  readonly findings: readonly EvidenceFinding[];
}

export interface EvidenceWatcher {
  /** Told of each entry when it has been looked at. What only the end of the file shows is in the report. */
  readonly onEntry?: (entry: CheckedEntry) => void;
}

/**
 * Checks a file as it arrives: `write` its bytes, or its text, in pieces of any size, then ask for the `report`.
 * Neither throws for anything that a file may hold.
 */
export class EvidenceVerifier {
  readonly #trust: EvidenceTrust;
  readonly #watcher: EvidenceWatcher;
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  readonly #hash = sha256Stream();
  readonly #found = new EvidenceFindings();
  readonly #chains = new EvidenceChains();
  readonly #counts = { entries: 0, openings: 0, erased: 0, signed: 0 };
  /** What may come next; `stopped` after bytes that cannot be made sense of. */
  #expects: "header" | "logs" | "keys" | "entries" | "nothing" | "stopped" = "header";
  #lineNumber = 0;
  #header: EvidenceHeader | undefined;
  #head: EvidenceHead | undefined;
  #places: EvidencePlaces | undefined;
  readonly #signatures = { valid: 0, erased: 0, unchecked: 0, keys: {} as Record<string, number> };
  #history: EvidenceHistory | undefined;
  /** Of the last signature that holds. */
  #lastSigned = -1;
  /** Whether an entry was there of which nothing could be counted. */
  #uncounted = false;
  /** What entries were asked for. */
  #wasAskedFor: ((leaf: Leaf) => boolean) | undefined;
  #first: EvidenceReport["first"];
  #last: EvidenceReport["last"];

  /** Throws `RangeError` for a quorum that is no whole number from 0. */
  constructor(trust: EvidenceTrust = {}, watcher: EvidenceWatcher = {}) {
    const { witnessQuorum = 0 } = trust;
    // Any comparison with NaN is false: a quorum that was computed wrong would let everything through.
    if (!Number.isSafeInteger(witnessQuorum) || witnessQuorum < 0) throw new RangeError(`no quorum: ${witnessQuorum}`);
    this.#trust = trust;
    this.#watcher = watcher;
  }

  /** Entries so far. */
  get entries(): number {
    return this.#counts.entries;
  }

  write(chunk: Uint8Array | string): void {
    if (this.#expects === "stopped") return;
    this.#lines.push(chunk, (line) => this.#takeLine(line));
    if (this.#lines.overflown) this.#stop("malformed", "is longer than any line can be", this.#lineNumber + 1);
  }

  /** What was found. To be called once, when all has been written. */
  report(): EvidenceReport {
    if (this.#expects === "nothing" && this.#lines.pending > 0)
      this.#stop("malformed", "there are bytes after the manifest");
    else if (this.#expects !== "nothing" && this.#expects !== "stopped") {
      this.#stop("incomplete", "the file ends before its manifest: it was cut off, or the export did not end well");
    }
    this.#checkCosignatures();
    const { findings, obstacles } = this.#found;
    const { checkpoint, signed } = this.#head ?? { signed: false };
    return {
      verdict: findings.length > 0 ? "tampered" : obstacles.length > 0 ? "unchecked" : "good",
      findings,
      obstacles,
      log: this.#header?.log ?? "",
      checkpoint: checkpoint && { size: checkpoint.size, root: toHex(checkpoint.root), signed },
      key: this.#head?.key,
      cosignatures: this.#head?.cosignatures ?? [],
      unknownSigners: this.#head?.unknownSigners ?? [],
      selection: this.#header?.selection,
      createdAt: this.#header?.createdAt ?? "",
      generator: this.#header?.generator ?? "",
      entries: this.#counts.entries,
      included: this.#places?.included ?? 0,
      complete: this.#places?.complete ?? false,
      first: this.#first,
      last: this.#last,
      chains: { services: this.#chains.services, links: this.#chains.links },
      serviceComplete: this.#isOneService() && this.#counts.entries > 0 && findings.length === 0,
      openings: this.#counts.openings,
      erased: this.#counts.erased,
      signatures: this.#signatures,
      keyChanges: this.#history?.changes ?? 0,
      keysComplete: this.#keysComplete(),
    };
  }

  #takeLine(bytes: Uint8Array): void {
    if (this.#expects === "stopped") return;
    this.#lineNumber += 1;
    let line: EvidenceLine;
    try {
      if (this.#expects === "nothing") throw new EvidenceError("malformed", "there is a line after the manifest");
      line = parseEvidenceLine(decode(bytes));
      this.#requirePlace(line);
    } catch (error) {
      if (!(error instanceof EvidenceError)) throw error;
      this.#stop(error.code, error.message, this.#lineNumber);
      return;
    }
    if (line.kind === "manifest") {
      this.#takeManifest(line);
      return;
    }
    this.#hash.update(bytes);
    this.#hash.update(NEWLINE);
    if (line.kind === "header") this.#takeHeader(line);
    else if (line.kind === "predecessor") this.#history!.addPredecessor(line);
    else if (line.kind === "key_history") this.#history!.add(line);
    else this.#takeEntry(line);
  }

  #requirePlace({ kind }: EvidenceLine): void {
    if ((kind === "header") !== (this.#expects === "header")) {
      throw new EvidenceError("malformed", "the header is the first line, and the only one");
    }
    if (kind === "predecessor" && this.#expects !== "logs") {
      throw new EvidenceError("malformed", "the logs before stand behind the header");
    }
    if (kind === "key_history" && this.#expects === "entries") {
      throw new EvidenceError("malformed", "the history of keys stands before the entries");
    }
    this.#expects = NEXT[kind];
  }

  #takeHeader(header: EvidenceHeader): void {
    this.#header = header;
    this.#wasAskedFor = this.#matcherOf(header.selection);
    this.#head = openEvidenceHead(header, this.#trust, this.#found);
    this.#places = new EvidencePlaces(header, this.#head, this.#found);
    this.#history = new EvidenceHistory(header.log, this.#head, this.#found);
  }

  #takeEntry(line: EvidenceEntry): void {
    const before = this.#found.count;
    this.#counts.entries += 1;
    this.#counts.openings += line.openings.length;
    const { seq, entry } = this.#checkEntry(line);
    this.#watcher.onEntry?.({ line, seq, entry, findings: this.#found.since(before) });
  }

  #checkEntry(line: EvidenceEntry): Pick<CheckedEntry, "seq" | "entry"> {
    let entry: OpenedEntry | undefined;
    let unreadable: string | undefined;
    try {
      entry = openEntry(line);
    } catch (error) {
      unreadable = (error as Error).message;
    }
    const hash = toHex(leafHash(line.leaf));
    const altered = hash !== line.leafHash;
    const id = entry?.leaf.id ?? null;
    const seq = this.#places!.take(line, { seq: entry?.leaf.seq ?? seqOf(line.leaf), id, altered });
    if (entry !== undefined) {
      this.#counts.erased += entry.erased.length;
      if (entry.leaf.publisher !== undefined) this.#counts.signed += 1;
    }
    if (altered) {
      this.#found.find({ seq, id, kind: "leaf", ...alteration(hash, line.leafHash) });
    } else if (unreadable !== undefined) {
      this.#found.find({ seq, kind: "leaf", detail: unreadable });
    } else if (entry === undefined) {
      this.#found.obstruct("newer", `the entry at position ${seq} is of a version whose meaning is not known here`);
    } else {
      this.#checkMeaning(entry, line);
      return { seq, entry };
    }
    this.#uncounted = true;
    this.#chains.restart();
    return { seq, entry };
  }

  #checkMeaning({ leaf, opened, misfits }: OpenedEntry, line: EvidenceEntry): void {
    const { log, selection } = this.#header!;
    const { seq, id, recorded_at: recordedAt } = leaf;
    const find = (finding: Omit<EvidenceFinding, "seq" | "id">) => this.#found.find({ seq, id, ...finding });
    if (leaf.log !== log) {
      find({ kind: "leaf", field: "log", stored: leaf.log, expected: log, detail: "the entry is another log's" });
    }
    if (this.#last !== undefined && recordedAt < this.#last.recordedAt) {
      const expected = `${this.#last.recordedAt} or later`;
      const detail = "the entry is older than the one before it: it was backdated";
      find({ kind: "order", field: "recorded_at", stored: recordedAt, expected, detail });
    }
    this.#first ??= { seq, recordedAt };
    this.#last = { seq, recordedAt };
    for (const { pointer, made, committed } of misfits) {
      const detail =
        committed === undefined
          ? `there is a value for ${pointer}, where the entry has no commitment`
          : `the value for ${pointer} is not the one that was recorded`;
      find({
        kind: "opening",
        field: pointer,
        stored: made,
        ...(committed !== undefined && { expected: committed }),
        detail,
      });
    }
    const broken = this.#chains.follow(leaf, line.leafHash, {
      fromStart: selection.kind === "range" && selection.from === 0,
      gapless: selection.kind === "range" || this.#isOneService(),
    });
    if (broken !== undefined) find(broken);
    this.#history!.requireKnown(leaf, line.leafHash);
    if (this.#wasAskedFor?.(opened) === false) {
      find({ kind: "selection", detail: "the entry is not one that was asked for" });
    }
    this.#checkPublisher(opened);
  }

  #matcherOf(selection: EvidenceHeader["selection"]): (leaf: Leaf) => boolean {
    const { from_seq: _, to_seq: __, ...parameters } = selection.kind === "range" ? selection.asked : selection.filter;
    const errors: FilterError[] = [];
    const filter = filterOf(parameters, errors);
    for (const { path } of errors) {
      this.#found.obstruct(
        "newer",
        `what was asked for by ${JSON.stringify(path.slice(0, 50))} is not understood here`,
      );
    }
    return matcherOf(filter, true);
  }

  /** A witness that had seen the checkpoint had seen every entry, none of which was recorded later. */
  #checkCosignatures(): void {
    if (this.#last === undefined) return;
    const { recordedAt } = this.#last;
    const earliest = Date.parse(recordedAt) - MAX_BEHIND_MS;
    const before = this.#head?.cosignatures.find(({ key, time }) => key === "given" && Date.parse(time) < earliest);
    if (before === undefined) return;
    const detail = `the witness ${before.witness} says that it saw the checkpoint at ${before.time}, before an entry that is here was recorded (${recordedAt})`;
    this.#found.obstruct("cosignature_time", detail);
  }

  #checkPublisher(opened: Leaf): void {
    const { seq, id } = opened;
    const keys = this.#history!.keys;
    const keyId = (opened.publisher as { key_id?: unknown } | undefined)?.key_id;
    if (typeof keyId === "string" && !keys.has(keyId)) {
      this.#signatures.unchecked += 1;
      const detail = `the file does not have the key ${keyId}, by which the entry at position ${seq} is signed`;
      this.#found.obstruct("unknown_key", detail);
      return;
    }
    try {
      const state = verifyPublisher(opened, keys);
      if (state === "unsigned") return;
      const { uncited } = this.#history!;
      if (state === "valid" && uncited !== undefined && isInherited(keys.get(keyId as string)!)) {
        this.#signatures.unchecked += 1;
        this.#found.obstruct("predecessor", `of the key ${keyId} a log before tells, and ${uncited}`);
        return;
      }
      this.#signatures[state] += 1;
      if (state !== "valid") return;
      this.#signatures.keys[keyId as string] = (this.#signatures.keys[keyId as string] ?? 0) + 1;
      this.#lastSigned = seq;
    } catch (error) {
      if (!(error instanceof PublisherError)) throw error;
      const detail = `the publisher's signature does not hold: ${error.message}`;
      this.#found.find({ seq, id, kind: "publisher", ...factsOf(error), detail });
    }
  }

  #takeManifest(manifest: EvidenceManifest): void {
    this.#places!.finish();
    const expected = toHex(this.#hash.digest());
    if (manifest.sha256 !== expected) {
      const detail = "the file was changed after it was written";
      this.#found.find({ kind: "manifest", field: "sha256", stored: manifest.sha256, expected, detail });
    }
    for (const field of ["entries", "openings", "erased", "signed"] as const) {
      if (manifest[field] === this.#counts[field]) continue;
      if (this.#uncounted && (field === "erased" || field === "signed")) continue;
      const facts = { field, stored: `${manifest[field]}`, expected: `${this.#counts[field]}` };
      this.#found.find({ kind: "manifest", ...facts, detail: "the file does not hold what its manifest says" });
    }
  }

  /** Whether nothing that happened to a key before an entry that it signed can have been left out of the file. */
  #keysComplete(): boolean {
    const { from, to } = this.#header?.selection ?? { from: 0, to: 0 };
    const whole = this.#places?.complete ? { from, to } : undefined;
    return (this.#history?.knownBelow(whole) ?? 0) >= this.#lastSigned;
  }

  /** Whether the filter lets all entries of one service through, so that its chain shows what is missing. */
  #isOneService(): boolean {
    const selection = this.#header?.selection;
    if (selection?.kind !== "filter" || typeof selection.filter.service_id !== "string") return false;
    return Object.keys(selection.filter).every((name) => name === "service_id" || RANGE_PARAMETERS.includes(name));
  }

  #stop(code: EvidenceObstacle["code"], detail: string, line?: number): void {
    this.#found.obstruct(code, line === undefined ? detail : `line ${line}: ${detail}`);
    this.#expects = "stopped";
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    throw new EvidenceError("malformed", "not UTF-8", { cause });
  }
}
