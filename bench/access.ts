/**
 * What it costs to ask who sends a single write and how often they may: an API key or a token, limits of the tenant and of the
 * credential, against the same server that asks nobody.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import { fileURLToPath } from "node:url";
import { type Bench, rate } from "./bench.ts";
import { LoadGenerator } from "./load.ts";
import { compared, type Result } from "./result.ts";
import { alternate } from "./rounds.ts";
import { startTallystick, type Tallystick } from "./tallystick.ts";

/** Of the rate of the server that asks nobody: the cost is under a tenth of it. */
const GOAL = 0.9;
const CONNECTIONS = 256;
/** Many short rounds: the cost is small, and whatever else the machine does must not look like it. */
const COUNT = 8_000;
const ROUNDS = 31;
const WARM_UP = 10_000;
/** More than any machine sends in a minute, and so that both buckets are there. */
const LIMITS = { RATE_LIMIT_REQUESTS: "10000000", RATE_LIMIT_CREDENTIAL_REQUESTS: "9999999" };

const ISSUER = "https://issuer.example";
const AUDIENCE = "bench";

export async function access(bench: Bench): Promise<Result[]> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const settings = {
    ...LIMITS,
    JWT_ISSUER: ISSUER,
    JWT_AUDIENCE: AUDIENCE,
    JWT_PUBLIC_KEY: publicKey.export({ type: "spki", format: "pem" }) as string,
  };
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: "bench", tenant: "default", scope: "write" };
  const signed = [
    { alg: "EdDSA", typ: "JWT" },
    { ...claims, exp: Math.floor(Date.now() / 1_000) + 86_400 },
  ]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  const token = `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;

  const load = new LoadGenerator();
  const nobody = ["--import", fileURLToPath(new URL("./no-access.ts", import.meta.url))];
  const servers: Tallystick[] = [];
  const start = async (options: Parameters<typeof startTallystick>[0]) => {
    const server = await startTallystick(options);
    servers.push(server);
    return server;
  };
  try {
    // One for each side: a log that had grown more would be slower.
    const open = await start({ nodeOptions: nobody });
    const keyed = await start({ settings, profileDir: bench.profileDir });
    const tokened = await start({ settings });
    let first = 0;
    const record = async (server: Tallystick, count: number, headers = server.headers) => {
      const send = { kind: "single", first, count, shape: {} } as const;
      first += count;
      return rate(await load.run({ ...server.job(CONNECTIONS, send), headers }));
    };
    const sides = [
      (count = COUNT) => record(keyed, count),
      (count = COUNT) => record(tokened, count, { Authorization: `Bearer ${token}` }),
      (count = COUNT) => record(open, count),
    ];
    for (const side of sides) await side(WARM_UP);
    const [byKey, byToken, yardstick] = await alternate(
      bench.quick ? ROUNDS >> 2 : ROUNDS,
      sides.map((side) => () => side()),
    );
    bench.say(`access: ${Math.round(byKey!)} and ${Math.round(byToken!)} of ${Math.round(yardstick!)} a second`);
    const found = [
      ["API key", byKey!],
      ["JWT (EdDSA)", byToken!],
    ] as const;
    return found.map(([by, value]) =>
      compared({
        benchmark: "access",
        what: `POST /v1/logs, ${CONNECTIONS} connections, ${by} and limits`,
        value,
        unit: "events/s",
        yardstick: yardstick!,
        against: "nobody is asked",
        goal: GOAL,
      }),
    );
  } finally {
    await load.stop();
    for (const server of servers) await server.stop();
  }
}
