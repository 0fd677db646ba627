/**
 * Whether an export is complete: that it has a manifest, and that everything before it is what the manifest says. In memory that
 * does not grow with the file.
 */
import { sha256Stream } from "#sha256-stream";
import { type Checkpoint, openCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import {
  CSV_MANIFEST_MARK,
  type ExportManifest,
  type ExportType,
  ManifestError,
  NDJSON_MANIFEST_MARK,
  parseManifest,
} from "./export-file.ts";
import { toHex } from "./hex.ts";
import { LineSplitter } from "./line-splitter.ts";
import { parseNote, type VerifierKey } from "./note.ts";

/** Longer than any line that we write: what is longer is refused before it fills memory. */
const MAX_LINE_BYTES = 16 * 2 ** 20;
const NEWLINE = new Uint8Array([0x0a]);
const QUOTE = 0x22;

/** What came of the check. */
export interface ExportReport {
  /** `complete`: it fits its manifest. `changed`: it does not. `broken`: there is no manifest. `unknown`: one that cannot be judged. */
  readonly state: "complete" | "changed" | "broken" | "unknown";
  readonly verdict: "good" | "tampered" | "unchecked";
  readonly type: ExportType;
  /** Entries that were counted. */
  readonly rows: number;
  /** A sentence's worth: what is wrong, or that nothing is. */
  readonly detail: string;
  /** As the file says. */
  readonly manifest?: ExportManifest;
  readonly checkpoint?: Pick<Checkpoint, "size"> & { readonly root: string };
  /** Whether the checkpoint is signed by the key that was given; absent where none was. */
  readonly signed?: boolean;
}

const VERDICTS = { complete: "good", changed: "tampered", broken: "unchecked", unknown: "unchecked" } as const;

/** Checks a file as it arrives, uncompressed: `write` its bytes in pieces of any size, then ask for the `report`. */
export class ExportVerifier {
  readonly #type: ExportType;
  readonly #logKey: VerifierKey | undefined;
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  readonly #hash = sha256Stream();
  readonly #mark: Uint8Array;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true });
  /** Records, a CSV file's header among them. */
  #records = 0;
  /** Whether the next line goes on with a quoted cell. */
  #quoted = false;
  #last: { readonly record: Uint8Array; readonly sha256: string } | undefined;
  #more = false;

  /** @param logKey what the manifest's checkpoint must be signed by; whose it is is not looked at unless it is given. */
  constructor(type: ExportType, logKey?: VerifierKey | undefined) {
    this.#type = type;
    this.#logKey = logKey;
    this.#mark = new TextEncoder().encode(type === "csv" ? `"${CSV_MANIFEST_MARK}` : NDJSON_MANIFEST_MARK);
  }

  /** Entries so far. */
  get rows(): number {
    return Math.max(0, this.#type === "csv" ? this.#records - 1 : this.#records);
  }

  write(chunk: Uint8Array): void {
    this.#lines.push(chunk, (line) => this.#take(line));
  }

  #take(line: Uint8Array): void {
    if (this.#last !== undefined) this.#more = true;
    else if (!this.#quoted && this.#mark.every((byte, at) => line[at] === byte)) {
      this.#last = { record: line.slice(), sha256: toHex(this.#hash.digest()) };
    } else {
      this.#hash.update(line);
      this.#hash.update(NEWLINE);
      if (this.#type === "csv") {
        for (let at = line.indexOf(QUOTE); at >= 0; at = line.indexOf(QUOTE, at + 1)) this.#quoted = !this.#quoted;
      }
      if (!this.#quoted) this.#records += 1;
    }
  }

  /** What was found. To be called once, when all has been written. */
  report(): ExportReport {
    if (this.#last === undefined) {
      const why = this.#lines.overflown
        ? "a line is longer than any of an export: it is none"
        : "there is no manifest at its end: it was cut off, did not end well, or is no export with a manifest";
      return this.#judged("broken", why);
    }
    let manifest: ExportManifest;
    try {
      manifest = parseManifest(this.#type, this.#utf8.decode(this.#last.record));
    } catch (error) {
      const newer = error instanceof ManifestError && error.code === "newer";
      return this.#judged(newer ? "unknown" : "changed", (error as Error).message);
    }
    if (this.#more || this.#lines.pending > 0 || this.#lines.overflown) {
      return this.#judged("changed", "something follows the manifest, which is the last of an export", { manifest });
    }
    if (manifest.sha256 !== this.#last.sha256) {
      const counted =
        this.rows === manifest.rows ? "" : `, which has ${manifest.rows} entries where ${this.rows} are here`;
      return this.#judged("changed", `its bytes are not those that the manifest was made for${counted}`, { manifest });
    }
    if (manifest.rows !== this.rows) {
      const detail = `the manifest says ${manifest.rows} entries, and ${this.rows} are here`;
      return this.#judged("changed", detail, { manifest });
    }
    return this.#checkpointed(manifest);
  }

  #checkpointed(manifest: ExportManifest): ExportReport {
    const { log, checkpoint: note, to } = manifest;
    let facts: Pick<ExportReport, "manifest" | "checkpoint"> = { manifest };
    try {
      const { size, root } = parseCheckpoint(parseNote(note).text);
      facts = { manifest, checkpoint: { size, root: toHex(root) } };
      if (size < to) return this.#judged("changed", "the manifest's checkpoint is of a smaller log", facts);
    } catch (error) {
      return this.#judged("changed", `the manifest's checkpoint is none: ${(error as Error).message}`, facts);
    }
    const complete = "nothing of it is missing or changed since it was exported";
    const key = this.#logKey;
    if (key === undefined) return this.#judged("complete", complete, facts);
    if (key.name !== log) {
      return this.#judged("unknown", `it is of log ${log}, and the key that was given is of ${key.name}`, facts);
    }
    try {
      openCheckpoint(note, key, log);
      return this.#judged("complete", complete, { ...facts, signed: true });
    } catch (error) {
      const detail = `the manifest's checkpoint is not signed by the key that was given: ${(error as Error).message}`;
      return this.#judged("changed", detail, { ...facts, signed: false });
    }
  }

  #judged(state: ExportReport["state"], detail: string, facts: Partial<ExportReport> = {}): ExportReport {
    return { state, verdict: VERDICTS[state], type: this.#type, rows: this.rows, detail, ...facts };
  }
}
