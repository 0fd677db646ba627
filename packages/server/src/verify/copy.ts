/**
 * Rows by COPY in binary form: no text to format, escape and parse on either side, and each row is seen as it arrives.
 * (PostgreSQL documentation, COPY, "Binary Format".)
 */
import pg from "pg";

const SIGNATURE = Buffer.from("PGCOPY\n\xff\r\n\0", "latin1");
const HEADER_BYTES = SIGNATURE.length + 8; // flags, and the length of an extension that no version has

/** Sees one row: `at` is where its first field begins, which is a 4-byte length (-1: null) and that many bytes. */
export type OnRow = (row: Buffer, at: number) => void;

/** A query of the driver's own kind: the only one that it takes in pipeline mode. */
class CopyQuery extends pg.Query {
  readonly #onRow: OnRow;
  #error: unknown;
  #started = false;

  constructor(text: string, onRow: OnRow) {
    super(text);
    this.#onRow = onRow;
  }

  get error(): unknown {
    return this.#error;
  }

  // The driver calls this for each message; PostgreSQL sends a message a row, the header in front of the first.
  handleCopyData({ chunk }: { chunk: Buffer }): void {
    if (this.#error !== undefined) return;
    try {
      const at = this.#started ? 0 : HEADER_BYTES;
      this.#started = true;
      const fields = chunk.readInt16BE(at);
      if (fields !== -1) this.#onRow(chunk, at + 2);
    } catch (error) {
      this.#error = error; // thrown from here it would end the process
    }
  }
}

/**
 * Calls `onRow` for each row of a SELECT, in order. The row's memory is used again by the driver: copy what is to be kept.
 * Rejects with PostgreSQL's error, or the first that `onRow` throws.
 */
export function copyRows(client: pg.ClientBase, select: string, onRow: OnRow): Promise<void> {
  return new Promise((resolve, reject) => {
    const query = new CopyQuery(`copy (${select}) to stdout (format binary)`, onRow);
    Object.assign(query, {
      callback: (error: unknown) => {
        const failure = error ?? query.error;
        if (failure === undefined || failure === null) resolve();
        else reject(failure);
      },
    });
    client.query(query);
  });
}
