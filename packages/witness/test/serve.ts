/**
 * A witness in a process of its own, to be killed: `serve.ts <state directory>`. Says its URL and verifier key on one line.
 */
import { formatVerifierKey } from "@tallystick/core/verifier-key";
import { parseLogKeys } from "../src/log-keys.ts";
import { startWitness } from "../src/start.ts";
import { signer } from "./test-log.ts";

const { url, vkey } = await startWitness({
  name: "witness.example",
  logs: parseLogKeys([formatVerifierKey(signer.key)]),
  stateDir: process.argv[2]!,
  host: "127.0.0.1",
  port: 0,
  log: { info: () => undefined, error: () => undefined },
});
console.log(`${url} ${vkey}`);
