/**
 * Exports to work with: entries as CSV or as lines of JSON, and behind them a manifest, without which the file is seen to be broken
 * (docs/exporting.md). It shows what got lost or was changed by accident. It proves nothing: that is what evidence is for.
 */
import { sha256Stream } from "#sha256-stream";
import type { Parameters } from "./filter-parameters.ts";
import { toHex } from "./hex.ts";
import type { JsonObject } from "./json.ts";

const EXPORT_FORMAT = "tallystick-export/v1";

export type ExportType = "csv" | "ndjson";

/** What the first cell of a CSV file's last record begins with. No entry's cell does. */
export const CSV_MANIFEST_MARK = "#manifest ";

/** What the last line of an NDJSON file begins with. No entry's does. */
export const NDJSON_MANIFEST_MARK = '{"manifest":';

/** What a file was made from. */
export interface ExportFacts {
  readonly type: ExportType;
  /** The log's name, `<origin>/<slug>`. */
  readonly log: string;
  /** The parameters it was asked for by. */
  readonly filter: Parameters;
  /** Of CSV. */
  readonly columns?: readonly string[];
  /** Positions of the log that were looked through: [from, to). */
  readonly from: number;
  readonly to: number;
  /** The signed note of the log as it was then. */
  readonly checkpoint: string;
  /** RFC 3339 UTC. */
  readonly createdAt: string;
  /** The program that wrote the file. */
  readonly generator: string;
}

export interface ExportManifest extends ExportFacts {
  /** Entries in the file. */
  readonly rows: number;
  /** Hex SHA-256 of all bytes of the file before the manifest, uncompressed. */
  readonly sha256: string;
}

/** Counts and hashes what is written, for the manifest. */
export class ExportSeal {
  readonly #facts: ExportFacts;
  readonly #hash = sha256Stream();
  readonly #utf8 = new TextEncoder();
  #rows = 0;

  constructor(facts: ExportFacts) {
    this.#facts = facts;
  }

  /** Takes text that is next in the file, and how many entries it has. Its bytes. */
  add(text: string, rows: number): Uint8Array {
    const bytes = this.#utf8.encode(text);
    this.#hash.update(bytes);
    this.#rows += rows;
    return bytes;
  }

  /** The manifest as the last record of the file. To be called once. */
  manifest(): Uint8Array {
    return this.#utf8.encode(this.#record());
  }

  #record(): string {
    const { type, log, filter, columns, from, to, checkpoint, createdAt, generator } = this.#facts;
    const manifest: JsonObject = {
      ...{ format: EXPORT_FORMAT, type, log, rows: this.#rows, sha256: toHex(this.#hash.digest()) },
      filter: filter as JsonObject,
      ...(columns !== undefined && { columns: [...columns] }),
      ...{ from, to, checkpoint, created_at: createdAt, generator },
    };
    if (type === "ndjson") return `${JSON.stringify({ manifest })}\n`;
    // As many cells as every record has.
    const cell = (CSV_MANIFEST_MARK + JSON.stringify(manifest)).replaceAll('"', '""');
    return `"${cell}"${",".repeat(columns!.length - 1)}\r\n`;
  }
}

/** Why a manifest is none. */
export class ManifestError extends Error {
  override readonly name = "ManifestError";
  /** `newer`: a format that this version does not know; else `malformed`. */
  readonly code: "malformed" | "newer";

  constructor(code: ManifestError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Reads the record that {@link ExportSeal.manifest} wrote, without its newline. Nothing of it is to be believed yet.
 * @throws {ManifestError}
 */
export function parseManifest(type: ExportType, record: string): ExportManifest {
  try {
    return readManifest(type, JSON.parse(type === "csv" ? jsonOfRecord(record) : record));
  } catch (cause) {
    if (cause instanceof ManifestError) throw cause;
    throw new ManifestError("malformed", `the manifest cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function jsonOfRecord(record: string): string {
  const cell = /^"(.*)",*\r?$/s.exec(record);
  if (cell === null) throw new SyntaxError("it is no record of CSV");
  return `{"manifest":${cell[1]!.slice(CSV_MANIFEST_MARK.length).replaceAll('""', '"')}}`;
}

function readManifest(type: ExportType, line: unknown): ExportManifest {
  const said = object(object(line, "the line").manifest, "manifest");
  if (said.format !== EXPORT_FORMAT) throw new ManifestError("newer", `the format is not ${EXPORT_FORMAT}`);
  if (said.type !== type) throw new SyntaxError(`it is of a file of another type than ${type}`);
  const sha256 = text(said.sha256, "sha256");
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new SyntaxError("sha256 is not 64 lower-case hex digits");
  return {
    type,
    sha256,
    log: text(said.log, "log"),
    rows: count(said.rows, "rows"),
    filter: parameters(said.filter),
    ...(type === "csv" && { columns: texts(said.columns, "columns") }),
    from: count(said.from, "from"),
    to: count(said.to, "to"),
    checkpoint: text(said.checkpoint, "checkpoint"),
    createdAt: text(said.created_at, "created_at"),
    generator: text(said.generator, "generator"),
  };
}

function parameters(value: unknown): Parameters {
  return Object.fromEntries(
    Object.entries(object(value, "filter")).map(([name, given]) => [
      name,
      Array.isArray(given) ? texts(given, name) : text(given, name),
    ]),
  );
}

function object(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new SyntaxError(`${name} is not an object`);
}

function text(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw new SyntaxError(`${name} is not a string`);
}

function texts(value: unknown, name: string): string[] {
  if (Array.isArray(value)) return value.map((one) => text(one, name));
  throw new SyntaxError(`${name} is not an array`);
}

function count(value: unknown, name: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new SyntaxError(`${name} is not a whole number from 0`);
}
