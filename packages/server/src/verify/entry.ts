/**
 * One row of entries against its leaf: hash, place, and everything that was derived from the leaf.
 */
import { hash } from "node:crypto";
import { commitmentsIn } from "@tallystick/core/commitment";
import { type Leaf, LeafError, parseLeaf } from "@tallystick/core/leaf";
import { isKeyChange } from "@tallystick/core/publisher-keys";
import { isServiceChange } from "@tallystick/core/signed-only";
import { COLUMNS_VERSION, type Columns, deriveColumns, termAt } from "../log/columns.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { ProblemKind, ProblemList } from "./report.ts";
import { type Fields, fieldsOf, isUuid, LENGTH_BYTES, readInt64, sameTerms, termsText, uuidText } from "./row.ts";
import { TimeColumn, timeMs, timeText } from "./time.ts";

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
  /** The leaf of an entry that a publisher has signed. */
  readonly signed: Leaf | undefined;
  /** It tells of a change to a publisher key, or to whether a service's events have to be signed. */
  readonly keyChange: boolean;
}

const KNOWN_V = 1;

export class EntryCheck {
  readonly #log: LogIdentity;
  readonly #tenant: Buffer;
  readonly #problems: ProblemList;
  /** Only entries of this service are checked. */
  readonly #serviceId: string | undefined;
  readonly #recordedAt = new TimeColumn();
  readonly #occurredAt = new TimeColumn();

  readonly #onLeaf: (seq: number, leaf: Leaf | undefined) => void;

  /** @param onLeaf sees each leaf, undefined where it cannot be read. */
  constructor(
    log: LogIdentity,
    problems: ProblemList,
    serviceId: string | undefined,
    onLeaf: (seq: number, leaf: Leaf | undefined) => void = () => {},
  ) {
    this.#onLeaf = onLeaf;
    this.#log = log;
    this.#tenant = Buffer.from(log.tenantId.replaceAll("-", ""), "hex");
    this.#problems = problems;
    this.#serviceId = serviceId;
  }

  /** Checks a row of `ENTRY_COLUMNS` in COPY's binary form. Undefined for an entry of another service than asked for. */
  check(row: Buffer, at: number): CheckedEntry | undefined {
    const fields = fieldsOf(row, at);
    const { recordedAt, id, tenant, hash: hashAt, occurred, leaf: leafAt, end } = fields;
    const text = row.toString("utf8", leafAt, end);
    // The byte before the leaf is the last of its length, read by now: as 0x00 it makes the leaf hash's input without a copy.
    row[leafAt - 1] = 0;
    const computed = hash("sha256", row.subarray(leafAt - 1, end), "hex");
    const seq = readInt64(row, fields.seq);

    // Whether the leaf's bytes are those that were recorded, the tree and the chain tell.
    const leaf = this.#parse(text, row, fields);
    this.#onLeaf(seq, leaf);
    if (this.#serviceId !== undefined && leaf?.service.id !== this.#serviceId) return undefined;
    if (row.compare(this.#tenant, 0, 16, tenant, tenant + 16) !== 0) {
      const detail = "the row is filed under another tenant than its log";
      this.#report(row, fields, "column", "tenant_id", uuidText(row, tenant), this.#log.tenantId, detail);
    }
    // What a leaf of another version means is not for us to say.
    const known = leaf?.v === KNOWN_V;
    const misfiled = known && this.#checkPlace(row, fields, leaf, seq);
    if (known) this.#checkColumns(row, fields, leaf, seq);
    return {
      seq,
      id: known && !misfiled ? leaf.id : uuidText(row, id),
      recordedAt: known ? leaf.recorded_at : timeText(row, recordedAt),
      misfiled,
      computed,
      stored: row.toString("hex", hashAt, occurred - LENGTH_BYTES),
      service: leaf?.service,
      commitments: leaf !== undefined && text.includes('{"$committed":"') ? commitmentsIn(leaf) : undefined,
      signed: known && leaf.publisher !== undefined ? leaf : undefined,
      keyChange: known && (isKeyChange(leaf) || isServiceChange(leaf)),
    };
  }

  #parse(text: string, row: Buffer, fields: Fields): Leaf | undefined {
    try {
      return parseLeaf(text);
    } catch (error) {
      if (!(error instanceof LeafError)) throw error;
      if (this.#serviceId === undefined) this.#report(row, fields, "leaf", "leaf", text, undefined, error.message);
      return undefined;
    }
  }

  /** Compares the place that the leaf names with where the row stands. */
  #checkPlace(row: Buffer, fields: Fields, leaf: Leaf, seq: number): boolean {
    const { recordedAt, id } = fields;
    const sameTime = this.#recordedAt.is(row, recordedAt, leaf.recorded_at);
    const sameId = isUuid(row, id, leaf.id);
    if (leaf.seq !== seq) {
      const detail = "the row stands at another position than its leaf says";
      this.#report(row, fields, "column", "seq", `${seq}`, `${leaf.seq}`, detail);
    }
    if (!sameId) {
      this.#report(row, fields, "column", "id", uuidText(row, id), leaf.id, "the row has another id than its leaf");
    }
    if (!sameTime) {
      const detail = "the row has another time than its leaf";
      this.#report(row, fields, "column", "recorded_at", timeText(row, recordedAt), leaf.recorded_at, detail);
    }
    if (leaf.log !== this.#log.name) {
      this.#report(row, fields, "leaf", "log", leaf.log, this.#log.name, "the leaf belongs to another log");
    }
    if (row.readUIntBE(id, 6) !== timeMs(row, recordedAt) || row[id + 6]! >> 4 !== 7 || row[id + 8]! >> 6 !== 2) {
      const expected = `a UUIDv7 of ${timeText(row, recordedAt)}`;
      const detail = "the id is not one of the millisecond in which the entry was recorded";
      this.#report(row, fields, "column", "id", uuidText(row, id), expected, detail);
    }
    return leaf.seq !== seq || !sameId || !sameTime;
  }

  /** Derives the columns for searching again, and compares them. */
  #checkColumns(row: Buffer, fields: Fields, leaf: Leaf, seq: number): void {
    const { occurred, terms, action, leaf: leafAt } = fields;
    const version = row.readInt16BE(fields.version);
    if (version !== COLUMNS_VERSION) {
      const detail = "the columns were derived by a version that this program does not know: they were not checked";
      this.#report(row, fields, "unknown_version", "columns_version", `${version}`, `${COLUMNS_VERSION}`, detail);
      return;
    }
    let columns: Columns;
    try {
      columns = deriveColumns(this.#log.logId, leaf.event, leaf.service.id);
    } catch {
      const detail = "the leaf's event is not of the form of events";
      this.#report(row, fields, "leaf", "event", JSON.stringify(leaf.event), undefined, detail);
      return;
    }
    const detail = "the column is not what the leaf says";
    const isNull = row.readInt32BE(occurred - LENGTH_BYTES) === -1;
    if (
      columns.occurredAt === undefined ? !isNull : isNull || !this.#occurredAt.is(row, occurred, columns.occurredAt)
    ) {
      const stored = isNull ? "null" : timeText(row, occurred);
      this.#report(row, fields, "column", "occurred_at", stored, columns.occurredAt ?? "null", detail);
    }
    const storedAction = row.toString("utf8", action, leafAt - LENGTH_BYTES);
    if (storedAction !== columns.action) {
      this.#report(row, fields, "column", "action", storedAction, String(columns.action), detail);
    }
    if (!sameTerms(row, terms, action - LENGTH_BYTES, columns.termHashes, seq)) {
      const expected = `{${columns.termHashes.map((term) => termAt(term, seq)).join(",")}}`;
      this.#report(row, fields, "column", "terms", termsText(row, terms, action - LENGTH_BYTES), expected, detail);
    }
  }

  #report(
    row: Buffer,
    fields: Fields,
    kind: ProblemKind,
    field: string,
    stored: string,
    expected: string | undefined,
    detail: string,
  ): void {
    const [seq, id] = [readInt64(row, fields.seq), uuidText(row, fields.id)];
    this.#problems.add({ seq, id, kind, field, stored, ...(expected !== undefined && { expected }), detail });
  }
}
