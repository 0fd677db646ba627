/**
 * From options to a witness that listens.
 */
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { cosigner } from "@tallystick/core/cosignature";
import { NoteError, requireName } from "@tallystick/core/note";
import { formatVerifierKey } from "@tallystick/core/verifier-key";
import { witnessServer } from "./http.ts";
import { openKeyFile } from "./key-file.ts";
import type { LogKeys } from "./log-keys.ts";
import { WitnessState } from "./state.ts";
import type { WitnessLog } from "./witness.ts";
import { WitnessError } from "./witness-error.ts";

/** How long requests that are under way may take to end when the witness stops. */
const STOP_TIMEOUT_MS = 5_000;

export interface WitnessOptions {
  /** The witness's name, a URL without scheme by convention. */
  readonly name: string;
  readonly logs: LogKeys;
  /** The directory of its key and its state, made where it is missing. */
  readonly stateDir: string;
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly log: WitnessLog;
}

export interface RunningWitness {
  /** Where it listens, without a slash at the end. */
  readonly url: string;
  /** The key its cosignatures are checked with. */
  readonly vkey: string;
  /** Ends once the requests under way are answered, after 5 s in any case. */
  stop(): Promise<void>;
}

/** @throws {WitnessError} */
export async function startWitness(options: WitnessOptions): Promise<RunningWitness> {
  const { name, logs, stateDir, host, port, log } = options;
  checkName(name);
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { message } = cause as Error;
    throw new WitnessError("state", `the directory ${stateDir} cannot be made (${message}): name another --state`, {
      cause,
    });
  }
  const state = new WitnessState(join(stateDir, "witness.sqlite"));
  try {
    const seed = openKeyFile(join(stateDir, "witness-key.pem"), { mayMake: state.owner === undefined });
    const own = cosigner(name, seed);
    const vkey = formatVerifierKey(own.key);
    state.claim(vkey);
    const server = witnessServer({ cosigner: own, logs, state, log, now: () => Math.floor(Date.now() / 1000) });
    // Nobody waits for connections that are kept open with nothing under way.
    server.on("request", (_request, response) => {
      response.once("close", () => {
        if (!server.listening) server.closeIdleConnections();
      });
    });
    const listening = once(server, "listening");
    server.listen(port, host);
    await listening.catch((cause: NodeJS.ErrnoException) => {
      const cure =
        cause.code === "EADDRINUSE"
          ? "another program listens there: use another --port"
          : "use another --host or --port";
      throw new WitnessError("listen", `cannot listen on ${host}:${port} (${cause.message}): ${cure}`, { cause });
    });
    return {
      url: `http://${host.includes(":") ? `[${host}]` : host}:${(server.address() as AddressInfo).port}`,
      vkey,
      async stop() {
        const closed = once(server, "close");
        server.close();
        const deadline = setTimeout(() => server.closeAllConnections(), STOP_TIMEOUT_MS);
        await closed;
        clearTimeout(deadline);
        state.close();
      },
    };
  } catch (error) {
    state.close();
    throw error;
  }
}

function checkName(name: string): void {
  try {
    requireName(name);
  } catch (cause) {
    if (!(cause instanceof NoteError)) throw cause;
    throw new WitnessError(
      "name",
      `${JSON.stringify(name)} is no name for a witness (${cause.message}): use one like example.org/witness`,
      { cause },
    );
  }
}
