/**
 * Signed events, each verified, durable and chained when it is answered, against nothing but verifying as many signatures.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { canonicalize } from "@tallystick/core/canonical";
import { type Bench, onFreshServer, rate } from "./bench.ts";
import { eventAt } from "./events.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import type { Tallystick } from "./tallystick.ts";
import { WRITES } from "./writes.ts";

/** Signatures that the yardstick verifies, over and over. */
const SIGNATURES = 200;

export async function signed(bench: Bench): Promise<Result[]> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  const signer = {
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    keyId: "bench:v1",
  };
  const rounds = bench.quick ? 3 : 7;
  return onFreshServer(
    bench,
    async ({ record }) => {
      const results: Result[] = [];
      for (const write of WRITES) {
        const events = async (by: typeof signer | undefined) => rate(await record({ ...write, shape: {}, signer: by }));
        for (const by of [signer, undefined]) await record({ ...write, count: write.warmUp, shape: {}, signer: by });
        const [value, verifying, unsigned] = await alternate(rounds, [
          () => events(signer),
          async () => verifications(privateKey, pem, bench.quick ? 2_000 : 10_000),
          () => events(undefined),
        ]);
        const common = { benchmark: "signed", what: `${write.what}, signed`, value: value!, unit: "events/s" } as const;
        results.push(compared({ ...common, yardstick: verifying!, against: "Ed25519 verify alone, one thread" }));
        results.push(compared({ ...common, yardstick: unsigned!, against: "unsigned" }));
        bench.say(
          `signed: ${write.what}: ${Math.round(value!)} a second, ${Math.round(verifying!)} verifications alone`,
        );
      }
      return results;
    },
    {},
    (server) => register(server, pem),
  );
}

async function register({ url, headers }: Tallystick, pem: string): Promise<void> {
  const response = await fetch(`${url}/v1/admin/keys`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ service_id: "bench", public_key_pem: pem, algorithm: "ed25519" }),
  });
  if (response.status !== 201) throw new Error(`the key was not registered: ${await response.text()}`);
}

/** Signatures over events of the load that one thread verifies in a second. */
function verifications(privateKey: KeyObject, pem: string, count: number): number {
  const key = createPublicKey(pem);
  const messages = Array.from({ length: SIGNATURES }, (_, i) => Buffer.from(canonicalize(eventAt(i, {}))));
  const signatures = messages.map((message) => sign(null, message, privateKey));
  const startedAt = performance.now();
  for (let i = 0; i < count; i++) {
    if (!verify(null, messages[i % SIGNATURES]!, key, signatures[i % SIGNATURES]!)) throw new Error("a bad signature");
  }
  return (count / (performance.now() - startedAt)) * 1000;
}
