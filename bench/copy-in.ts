/**
 * COPY ... FROM STDIN (FORMAT binary): rows as bytes, and the query that sends them.
 */
import type pg from "pg";

const SIGNATURE = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), Buffer.alloc(8)]);
const TRAILER = Buffer.from([0xff, 0xff]);
/** Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

/** Fields in the form in which PostgreSQL's `recv` functions read them. */
export const field = {
  text: (value: string) => Buffer.from(value),
  int8: (value: number) => {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigInt64BE(BigInt(value));
    return bytes;
  },
  uuid: (value: string) => Buffer.from(value.replaceAll("-", ""), "hex"),
  timestamptz: (us: bigint) => {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigInt64BE(us - POSTGRES_EPOCH_US);
    return bytes;
  },
};

/** The data of one COPY: all rows with their fields, in the order of the columns. */
export function copyData(rows: readonly (readonly Buffer[])[]): Buffer {
  const parts: Buffer[] = [SIGNATURE];
  for (const fields of rows) {
    const count = Buffer.allocUnsafe(2);
    count.writeInt16BE(fields.length);
    parts.push(count);
    for (const bytes of fields) {
      const length = Buffer.allocUnsafe(4);
      length.writeInt32BE(bytes.length);
      parts.push(length, bytes);
    }
  }
  parts.push(TRAILER);
  return Buffer.concat(parts);
}

/** What `pg`'s connection can do beside what its types say. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

/** Sends one COPY, which is a transaction of its own; resolves when it has committed. */
export function copyIn(client: pg.Client, statement: string, data: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const query = {
      submit: (connection: pg.Connection) => connection.query(statement),
      handleCopyInResponse: (connection: CopyConnection) => {
        connection.sendCopyFromChunk(data);
        connection.endCopyFrom();
      },
      handleCommandComplete: () => {},
      handleReadyForQuery: () => resolve(),
      handleError: (error: Error) => reject(error),
    };
    client.query(query);
  });
}
