/**
 * `tallystick demo`: records, lets a superuser change one byte behind the server's back, and shows the verification name it.
 */
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { styleText } from "node:util";
import { toHex } from "@tallystick/core/hex";
import { parseReceipt, verifyReceipt } from "@tallystick/core/receipt";
import { parseVerifierKey } from "@tallystick/core/verifier-key";
import { loadConfig, secretsOf } from "@tallystick/server/config";
import { dataFiles } from "@tallystick/server/db/embedded-cluster";
import { type RunningServer, startServer } from "@tallystick/server/start";
import { verifyDatabase } from "@tallystick/server/verify/database";
import type { VerifyReport } from "@tallystick/server/verify/report";
import { Command } from "commander";
import { Client, DatabaseError } from "pg";
import { Api } from "../api.ts";
import { CliError, databaseMessage } from "../errors.ts";
import { stderrLogger } from "../logger.ts";
import { print } from "../output.ts";
import { reportLines } from "../verify-text.ts";

const EVENTS = [
  { action: "user.login", actor: { id: "alice", type: "user" }, outcome: "success" },
  {
    action: "invoice.create",
    actor: { id: "alice" },
    resource: { type: "invoice", id: "42" },
    metadata: { amount: 1200 },
  },
  { action: "payment.send", actor: { id: "bob" }, resource: { type: "invoice", id: "42" }, metadata: { amount: 1200 } },
  { action: "user.delete", actor: { id: "carol" }, resource: { type: "user", id: "dave" }, outcome: "denied" },
  { action: "user.logout", actor: { id: "alice" } },
];
/** Which of them the superuser changes, and how: one byte of the amount. */
const VICTIM = 2;
const ORIGINAL = '"amount":1200';
const FORGED = '"amount":9200';

interface Head {
  readonly id: string;
  readonly seq: number;
  readonly leaf_hash: string;
  readonly receipt: string;
}

export function demoCommand(): Command {
  return new Command("demo")
    .description("see a change of one byte in the database being found; leaves nothing behind")
    .addHelpText(
      "after",
      `
Starts a server with a PostgreSQL of its own in a temporary directory, and takes it away at the end. Takes a few
seconds. Exits with 0 where the change was found, and with 1 where anything else happened.

Example:
  $ tallystick demo`,
    )
    .action(demo);
}

async function demo(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "tallystick-demo-"));
  await chmod(directory, 0o711); // PostgreSQL's own user has to pass through, where root runs this
  const dataDir = join(directory, "data");
  // Settings of this machine are left out: the demo must never work on anybody's real log.
  const config = loadConfig({ DATA_DIR: dataDir, PORT: "0", LOG_LEVEL: "ERROR" }, { cwd: directory });
  step(1, "A server and a PostgreSQL of its own, in a temporary directory");
  const starting = startServer(config, {
    logger: stderrLogger(config.logLevel, secretsOf(config)),
    say: () => undefined,
  });
  let cleaning: Promise<void> | undefined;
  const cleanUp = () => (cleaning ??= removeAll(starting, directory, dataDir));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => void cleanUp().finally(() => process.exit(130)));
  }
  try {
    await play(await starting);
  } finally {
    await cleanUp();
  }
  say("\nThe server, its PostgreSQL and all data of this demo are gone again.");
}

async function play(server: RunningServer): Promise<void> {
  const { url, credentials } = server;
  say(`   ready at ${url}`);
  const api = new Api(url, { authorization: `Bearer ${credentials.api_key}` });

  step(2, "Events, recorded over HTTP; each answer carries a receipt, which the client keeps");
  const vkey = (await api.text("/v1/tenants/default/log/vkey")).trim();
  say(`   the log's verifier key: ${vkey}`);
  const heads: Head[] = [];
  for (const event of EVENTS) {
    const head = await api.request<Head>("POST", "/v1/logs?receipt=true", event);
    heads.push(head);
    say(
      `   seq ${head.seq}  ${event.action.padEnd(14)}  by ${event.actor.id.padEnd(5)}  leaf hash ${dim(head.leaf_hash)}`,
    );
  }

  const victim = heads[VICTIM]!;
  step(3, `The receipt of seq ${victim.seq}, verified here: with the verifier key and nothing else`);
  const logKey = parseVerifierKey(vkey);
  const proved = verifyReceipt(victim.receipt, { logKey });
  say(`   ${proved.leafText}`);
  say(`   SHA-256(0x00 || leaf) = ${toHex(proved.leafHash)}`);
  expectThat(toHex(proved.leafHash) === victim.leaf_hash, "the receipt is of another leaf than the answer");
  say(`   is at index ${proved.index} of the tree of ${proved.checkpoint.size} whose root the log's key has signed:`);
  for (const line of parseReceipt(victim.receipt).checkpoint.trimEnd().split("\n")) say(`     ${dim(line)}`);

  step(4, "Verification of the whole log, from the database");
  const before = await verify(credentials.database_url);
  for (const line of before.flatMap((report) => reportLines(report))) say(`   ${line}`);
  expectThat(
    before.every(({ ok }) => ok),
    "the log was expected to verify before anything was changed",
  );

  const admin = new Client({ connectionString: credentials.database_url, application_name: "tallystick demo" });
  await admin.connect();
  try {
    await tamper(admin, victim);
  } finally {
    await admin.end();
  }

  step(7, "Verification again");
  const after = await verify(credentials.database_url);
  for (const line of after.flatMap((report) => reportLines(report))) say(`   ${line}`);
  const named = after.some(({ problems }) =>
    problems.some(({ seq, id }) => seq === victim.seq && (id === null || id === victim.id)),
  );
  expectThat(named, `the change of seq ${victim.seq} was not found`);
  const others = after.flatMap(({ problems }) => problems).filter(({ seq }) => seq !== null && seq !== victim.seq);
  expectThat(others.length === 0, "entries that nobody changed were named as well");
  say(styleText("green", `\nFound: seq ${victim.seq}, ${victim.id}, and no other.`, { stream: process.stdout }));

  step(8, "The receipt, which no superuser can reach, still says what was recorded");
  const { leafText } = verifyReceipt(victim.receipt, { logKey });
  expectThat(leafText.includes(ORIGINAL), "the receipt does not hold what was recorded");
  say(`   ${ORIGINAL}, signed by the log at size ${proved.checkpoint.size}. Had the whole log been rewritten to fit`);
  say("   the change, this is what would contradict it.");
}

/** What someone with every right on the database can do, and what it takes. */
async function tamper(admin: Client, { seq, id }: Head): Promise<void> {
  step(5, "PostgreSQL's superuser changes the amount");
  const { rows } = await admin.query<{ partition: string }>(
    "select tableoid::regclass::text as partition from tallystick.entries where id = $1",
    [id],
  );
  const partition = rows[0]!.partition;
  const update = `update ${partition} set leaf = replace(leaf, '${ORIGINAL}', '${FORGED}') where seq = ${seq}`;
  statement(update);
  try {
    await admin.query(update);
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    for (const line of databaseMessage(error).split("\n"))
      say(styleText("yellow", `   ${line}`, { stream: process.stdout }));
  }
  const unchanged = await admin.query("select 1 from tallystick.entries where id = $1 and leaf like '%' || $2 || '%'", [
    id,
    ORIGINAL,
  ]);
  expectThat(unchanged.rowCount === 1, "PostgreSQL was expected to refuse the change");

  step(6, "The superuser switches the protection off, changes one byte, and switches it on again");
  const triggers = await admin.query<{ name: string }>(
    "select quote_ident(tgname) as name from pg_trigger where tgrelid = $1::regclass and not tgisinternal order by 1",
    [partition],
  );
  const each = (action: string) =>
    triggers.rows.map(({ name }) => `alter table ${partition} ${action} trigger ${name}`);
  for (const text of [...each("disable"), update, ...each("enable always")]) {
    statement(text);
    const { rowCount } = await admin.query(text);
    if (text === update) expectThat(rowCount === 1, "one row was expected to change");
  }
  say(`   done: ${ORIGINAL} now reads ${FORGED}`);
}

async function verify(databaseUrl: string): Promise<VerifyReport[]> {
  const reports: VerifyReport[] = [];
  for await (const report of verifyDatabase(databaseUrl)) reports.push(report);
  return reports;
}

/** Stops what runs and deletes its data, which is elsewhere where PostgreSQL's user could not enter the directory. */
async function removeAll(starting: Promise<RunningServer>, directory: string, dataDir: string): Promise<void> {
  const server = await starting.catch(() => undefined); // thrown where the demo waits for it
  await server?.stop();
  const elsewhere = await readFile(dataFiles(dataDir).location, "utf8").catch(() => undefined); // only there where it is needed
  if (elsewhere !== undefined) await rm(elsewhere.trim(), { recursive: true, force: true });
  await rm(directory, { recursive: true, force: true });
}

function step(number: number, title: string): void {
  say(styleText("bold", `\n${number}. ${title}`, { stream: process.stdout }));
}

function statement(text: string): void {
  say(`   ${styleText("cyan", `${text};`, { stream: process.stdout })}`);
}

function dim(text: string): string {
  return styleText("dim", text, { stream: process.stdout });
}

const say = print;

function expectThat(held: boolean, otherwise: string): void {
  if (!held) throw new CliError(`the demo did not go as it should: ${otherwise}`);
}
