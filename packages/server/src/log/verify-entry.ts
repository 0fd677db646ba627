/**
 * One row of entries against its leaf: hash, place, and everything that was derived from the leaf.
 */
import { hash } from "node:crypto";
import { commitmentsIn } from "@tallystick/core/commitment";
import { type Leaf, LeafError, parseLeaf } from "@tallystick/core/leaf";
import { COLUMNS_VERSION, type Columns, deriveColumns, termAt } from "./columns.ts";
import type { ProblemKind, ProblemList } from "./verify-report.ts";
import { TimeText } from "./verify-time.ts";

/** The log that is verified. */
export interface LogIdentity {
  readonly logId: number;
  readonly tenantId: string;
  readonly name: string;
}

/** What the checks across entries need of one. */
export interface CheckedEntry {
  readonly seq: number;
  readonly id: string;
  /** As the leaf says, RFC 3339; where it says nothing, the column. */
  readonly recordedAt: string;
  /** The row does not stand where its leaf says: another position, id or time. */
  readonly misfiled: boolean;
  /** Hex hash of the leaf as it is. */
  readonly computed: string;
  /** The column `leaf_hash`, hex. */
  readonly stored: string;
  /** Undefined where the leaf cannot be read. */
  readonly service: Leaf["service"] | undefined;
  /** By JSON pointer; undefined where there are none. */
  readonly commitments: Map<string, string> | undefined;
}

/** What {@link EntryCheck.check} reads, in its order. */
export const ENTRY_COLUMNS =
  "e.seq, e.recorded_at, e.id, e.tenant_id, e.columns_version, e.leaf_hash, e.occurred_at, e.terms, e.action, e.leaf";

const KNOWN_V = 1;

export class EntryCheck {
  readonly #log: LogIdentity;
  readonly #tenant: Buffer;
  readonly #problems: ProblemList;
  /** Only entries of this service are checked. */
  readonly #serviceId: string | undefined;
  readonly #recordedText = new TimeText();
  readonly #occurredText = new TimeText();

  constructor(log: LogIdentity, problems: ProblemList, serviceId: string | undefined) {
    this.#log = log;
    this.#tenant = Buffer.from(log.tenantId.replaceAll("-", ""), "hex");
    this.#problems = problems;
    this.#serviceId = serviceId;
  }

  /** Checks a row of {@link ENTRY_COLUMNS} in COPY's binary form. Undefined for an entry of another service than asked for. */
  check(row: Buffer, at: number): CheckedEntry | undefined {
    // 1. The fields: each its length, then its bytes. A null, which only a changed schema allows, reads as empty.
    const seqAt = at + 4;
    const recordedAt = fieldAfter(row, seqAt);
    const idAt = fieldAfter(row, recordedAt);
    const tenantAt = fieldAfter(row, idAt);
    const versionAt = fieldAfter(row, tenantAt);
    const hashAt = fieldAfter(row, versionAt);
    const occurredAt = fieldAfter(row, hashAt);
    const termsAt = fieldAfter(row, occurredAt);
    const actionAt = fieldAfter(row, termsAt);
    const leafAt = fieldAfter(row, actionAt);
    const leafEnd = fieldAfter(row, leafAt) - 4;

    const text = row.toString("utf8", leafAt, leafEnd);
    // The byte before the leaf is the last of its length, read by now: as 0x00 it makes the leaf hash's input without a copy.
    row[leafAt - 1] = 0;
    const computed = hash("sha256", row.subarray(leafAt - 1, leafEnd), "hex");
    const seq = readInt64(row, seqAt);
    const id = uuidText(row, idAt);
    const recordedAtText = this.#recordedText.of(row, recordedAt);
    const problem = (kind: ProblemKind, field: string, stored: string, expected: string, detail: string) =>
      this.#problems.add({ seq, id, kind, field, stored, expected, detail });

    // 2. The leaf. Whether its bytes are those that were recorded, the tree and the chain tell.
    let leaf: Leaf | undefined;
    try {
      leaf = parseLeaf(text);
    } catch (error) {
      if (!(error instanceof LeafError)) throw error;
      if (this.#serviceId !== undefined) return undefined;
      this.#problems.add({
        seq,
        id,
        kind: "leaf",
        field: "leaf",
        stored: text,
        detail: error.message,
      });
    }
    if (this.#serviceId !== undefined && leaf?.service.id !== this.#serviceId) return undefined;
    const entry = {
      seq,
      id,
      recordedAt: leaf?.v === KNOWN_V ? leaf.recorded_at : recordedAtText,
      misfiled: leaf?.v === KNOWN_V && (leaf.seq !== seq || leaf.id !== id || leaf.recorded_at !== recordedAtText),
      computed,
      stored: row.toString("hex", hashAt, occurredAt - 4),
      service: leaf?.service,
      commitments: leaf !== undefined && text.includes('{"$committed":"') ? commitmentsIn(leaf) : undefined,
    };
    if (row.compare(this.#tenant, 0, 16, tenantAt, versionAt - 4) !== 0) {
      problem(
        "column",
        "tenant_id",
        uuidText(row, tenantAt),
        this.#log.tenantId,
        "the row is filed under another tenant than its log",
      );
    }
    if (leaf === undefined || leaf.v !== KNOWN_V) return entry; // what another version means is not for us to say

    // 3. The place that the leaf names.
    if (leaf.seq !== seq)
      problem("column", "seq", `${seq}`, `${leaf.seq}`, "the row stands at another position than its leaf says");
    if (leaf.id !== id) problem("column", "id", id, leaf.id, "the row has another id than its leaf");
    if (leaf.recorded_at !== recordedAtText) {
      problem("column", "recorded_at", recordedAtText, leaf.recorded_at, "the row has another time than its leaf");
    }
    if (leaf.log !== this.#log.name)
      problem("leaf", "log", leaf.log, this.#log.name, "the leaf belongs to another log");
    if (row.readUIntBE(idAt, 6) !== this.#recordedText.ms || row[idAt + 6]! >> 4 !== 7 || row[idAt + 8]! >> 6 !== 2) {
      problem(
        "column",
        "id",
        id,
        `a UUIDv7 of ${recordedAtText}`,
        "the id is not one of the millisecond in which the entry was recorded",
      );
    }

    // 4. The columns for searching.
    const version = row.readInt16BE(versionAt);
    if (version !== COLUMNS_VERSION) {
      problem(
        "unknown_version",
        "columns_version",
        `${version}`,
        `${COLUMNS_VERSION}`,
        "the columns were derived by a version that this program does not know: they were not checked",
      );
      return entry;
    }
    let columns: Columns;
    try {
      columns = deriveColumns(leaf.event, leaf.service.id);
    } catch {
      this.#problems.add({
        seq,
        id,
        kind: "leaf",
        field: "leaf",
        stored: text,
        detail: "the leaf's event is not of the form of events",
      });
      return entry;
    }
    const occurred = row.readInt32BE(occurredAt - 4) === -1 ? undefined : this.#occurredText.of(row, occurredAt);
    if (occurred !== columns.occurredAt) {
      problem(
        "column",
        "occurred_at",
        occurred ?? "null",
        columns.occurredAt ?? "null",
        "the column is not what the leaf says",
      );
    }
    const action = row.toString("utf8", actionAt, leafAt - 4);
    if (action !== columns.action)
      problem("column", "action", action, String(columns.action), "the column is not what the leaf says");
    if (!sameTerms(row, termsAt, actionAt - 4, columns.termHashes, seq)) {
      const expected = columns.termHashes.map((term) => termAt(term, seq));
      problem(
        "column",
        "terms",
        termsText(row, termsAt, actionAt - 4),
        `{${expected.join(",")}}`,
        "the search terms are not those of the leaf",
      );
    }
    return entry;
  }
}

/** Where the field after the one at `at` begins, behind its length. */
function fieldAfter(row: Buffer, at: number): number {
  const length = row.readInt32BE(at - 4);
  return at + Math.max(0, length) + 4;
}

/** Exact up to 2^53, beyond which no log grows. */
function readInt64(row: Buffer, at: number): number {
  return row.readInt32BE(at) * 2 ** 32 + row.readUInt32BE(at + 4);
}

function uuidText(row: Buffer, at: number): string {
  const hex = row.toString("hex", at, at + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

// An array: dimensions, whether it has nulls, element type, then size and lower bound of the dimension; elements behind
// their lengths. (array_send in arrayfuncs.c)
const ARRAY_HEADER_BYTES = 20;
const TERM_BYTES = 4 + 8;

function sameTerms(row: Buffer, at: number, end: number, termHashes: readonly number[], seq: number): boolean {
  const count = Math.max(0, (end - at - ARRAY_HEADER_BYTES) / TERM_BYTES);
  if (count !== termHashes.length) return false;
  for (let i = 0; i < count; i++) {
    if (readInt64(row, at + ARRAY_HEADER_BYTES + TERM_BYTES * i + 4) !== termAt(termHashes[i]!, seq)) return false;
  }
  return true;
}

function termsText(row: Buffer, at: number, end: number): string {
  const terms: number[] = [];
  for (let term = at + ARRAY_HEADER_BYTES; term + TERM_BYTES <= end; term += TERM_BYTES)
    terms.push(readInt64(row, term + 4));
  return `{${terms.join(",")}}`;
}
