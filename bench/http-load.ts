/**
 * A load generator over raw sockets: keep-alive, one request in flight on each connection, the bytes of all requests made
 * before the clock starts.
 *
 * Not autocannon: server, database and generator share the machine's cores, and there a generator that parses every answer into
 * headers and objects is most of what is measured. This one reads a status line and a Content-Length, and costs little enough
 * that what is left is the server's.
 */
import { connect, type Socket } from "node:net";

export interface LoadTarget {
  readonly host: string;
  readonly port: number;
  readonly connections: number;
  /** At most so many are begun a second, evenly; as fast as they are answered where it is not given. */
  readonly requestsPerSecond?: number | undefined;
}

export interface LoadResult {
  readonly durationMs: number;
  /** Of each request, in ms, in order of arrival. */
  readonly latenciesMs: Float64Array;
}

/** Longer than the server may take for any request: one that is never answered must not hold the benchmark for ever. */
const ANSWER_TIMEOUT_MS = 60_000;
const HEADERS_END = Buffer.from("\r\n\r\n");
const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;
const STATUS = /^HTTP\/1\.1 (\d{3}) /;
const EMPTY = Buffer.alloc(0);

/**
 * Sends each request once, the connections taking the next as they are free.
 * @throws {Error} at the first answer that is not 2xx, with what it says: a refused request is nothing to measure.
 */
export async function load(target: LoadTarget, requests: readonly Buffer[]): Promise<LoadResult> {
  const sockets = await Promise.all(Array.from({ length: target.connections }, () => open(target)));
  try {
    const latenciesMs = new Float64Array(requests.length);
    let next = 0;
    let answered = 0;
    const startedAt = performance.now();
    await Promise.all(
      sockets.map(
        (socket) =>
          new Promise<void>((resolve, reject) => {
            let sentAt = 0;
            const send = () => {
              const number = next++;
              const request = requests[number];
              if (request === undefined) return resolve();
              const write = () => {
                sentAt = performance.now();
                socket.write(request);
              };
              const { requestsPerSecond } = target;
              const early =
                requestsPerSecond === undefined
                  ? 0
                  : startedAt + (number / requestsPerSecond) * 1000 - performance.now();
              if (early > 0) setTimeout(write, early);
              else write();
            };
            socket.once("error", reject);
            socket.setTimeout(ANSWER_TIMEOUT_MS, () => reject(new Error(`no answer in ${ANSWER_TIMEOUT_MS / 1000} s`)));
            socket.once("close", () => reject(new Error("the server closed a connection")));
            socket.on(
              "data",
              answerReader((status, text) => {
                if (status < 200 || status > 299) return reject(new Error(`answered ${status}: ${text}`));
                latenciesMs[answered++] = performance.now() - sentAt;
                send();
              }),
            );
            send();
          }),
      ),
    );
    return { durationMs: performance.now() - startedAt, latenciesMs };
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

function open({ host, port }: LoadTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true });
    socket.once("error", reject);
    socket.once("connect", () => resolve(socket.off("error", reject)));
  });
}

/** Takes what arrives on a connection, and reports each answer that is complete; the text of a body only for errors. */
function answerReader(onAnswer: (status: number, text: string) => void): (chunk: Buffer) => void {
  let head: Buffer = EMPTY;
  let bodyLeft = 0;
  let status = 0;
  let text = "";
  return (chunk) => {
    if (bodyLeft === 0) {
      head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
      const end = head.indexOf(HEADERS_END);
      if (end === -1) return;
      const headers = head.toString("latin1", 0, end);
      status = Number(STATUS.exec(headers)?.[1]);
      const length = CONTENT_LENGTH.exec(headers)?.[1];
      if (length === undefined) throw new Error(`an answer without Content-Length: ${headers}`);
      chunk = head.subarray(end + HEADERS_END.length);
      head = EMPTY;
      bodyLeft = Number(length);
      text = "";
    }
    bodyLeft -= chunk.length;
    if (bodyLeft < 0) throw new Error("more was answered than was asked for");
    if (status > 299) text += chunk.toString();
    if (bodyLeft === 0) onAnswer(status, text);
  };
}
