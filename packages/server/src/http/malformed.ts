/**
 * What never becomes a request of Fastify's, because Node's HTTP parser refuses it: the answer is written by hand.
 */
import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Problem, problemBody } from "./problem.ts";
import { SECURITY_HEADERS } from "./security-headers.ts";

/** Answers by a problem, and closes the connection; one that no answer can be sent by is only closed. */
export function answerMalformed(error: Error & { code?: string }, socket: Socket): void {
  // Of a handshake that failed there is no connection that an answer could be sent by. It also comes to this where a client's
  // certificate bears our CA's name and another's signature: who brings that is owed no answer.
  if (!socket.writable || error.code === "ECONNRESET" || /^(ERR_SSL|ERR_TLS|EPROTO)/.test(error.code ?? "")) {
    socket.destroy(error);
    return;
  }
  // A request before the malformed one may be under way still: its answer comes first, or this would be taken for it.
  const { _httpMessage: underWay } = socket as { _httpMessage?: ServerResponse | null };
  if (underWay?.req.complete && !underWay.writableFinished) {
    underWay.once("finish", () => answerMalformed(error, socket));
    return;
  }
  const problem =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? new Problem(408, "request-timeout", "The request did not arrive in time: send it faster, or in parts.")
      : error.code === "HPE_HEADER_OVERFLOW"
        ? new Problem(431, "too-large", "The headers are too large.")
        : new Problem(400, "invalid-request", "This is not well-formed HTTP.");
  const { head, body } = malformedAnswer(problem);
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${problem.status} ${problemBody(problem).title}\r\n${lines.join("")}\r\n${body}`);
}

/** Head and body of an answer that is a problem. */
export function malformedAnswer(problem: Problem): { head: Record<string, string>; body: string } {
  const requestId = randomUUID();
  const body = JSON.stringify({ ...problemBody(problem), request_id: requestId });
  return {
    head: {
      ...SECURITY_HEADERS,
      "X-Request-Id": requestId,
      "Content-Type": "application/problem+json",
      "Content-Length": String(Buffer.byteLength(body)),
      Connection: "close",
    },
    body,
  };
}
