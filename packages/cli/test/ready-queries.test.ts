/** docs/ready-queries.md: each example as it stands there, by HTTP and by the command, finds the entries that it is about and no others. */
import { readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cleanUp, shell, start, temporaryDirectory } from "./cli.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const DEFAULT_URL = "http://127.0.0.1:8000";

let cwd: string;
let define: string;
let sections: ReadonlyMap<string, readonly string[]>;

const alice = { id: "u-17", name: "Alice Smith" };
const order = { type: "order", id: "o-17" };
/** By what they are about. */
const EVENTS: readonly (readonly [about: string, event: Readonly<Record<string, unknown>>])[] = [
  ["alice", { action: "document.view", actor: alice }],
  ["order", { action: "order.create", actor: { id: "u-1" }, resource: order, changes: { after: { status: "new" } } }],
  [
    "order",
    {
      action: "order.pay",
      actor: { id: "u-2" },
      resource: order,
      changes: { before: { status: "new" }, after: { status: "paid" } },
    },
  ],
  [
    "order",
    { action: "payment.book", actor: { id: "u-2" }, resource: { type: "payment", id: "p-1" }, related: [order] },
  ],
  ["login", { action: "user.login", actor: { id: "u-3" }, outcome: "failure" }],
  ["login", { action: "user.login", actor: { id: "u-3" }, outcome: "failure" }],
  ["", { action: "user.login", actor: { id: "u-4" } }],
  ["export", { action: "report.export", actor: { id: "u-5" } }],
  ["export", { action: "user.exported_all", actor: { id: "u-6" } }],
  ["request", { action: "cart.add", actor: { id: "u-7" }, context: { request_id: "req-42" } }],
  ["session", { action: "cart.add", actor: { id: "u-7" }, context: { session_id: "sess-7" } }],
  ["agent", { action: "mail.send", actor: { id: "assistant-1", type: "agent", on_behalf_of: { id: "u-9" } } }],
  ["", { action: "mail.send", actor: { id: "assistant-1", type: "agent", on_behalf_of: { id: "u-10" } } }],
  ["", { action: "mail.send", actor: { id: "assistant-2", type: "agent", on_behalf_of: { id: "u-9" } } }],
];
/** What the entries of a kind are, in the order in which they were recorded. */
const about = (...kinds: string[]) => EVENTS.filter(([one]) => kinds.includes(one)).map(([, { action }]) => action);

/** A directory like the top one of a clone, and a server with data of its own there. */
beforeAll(async () => {
  cwd = await temporaryDirectory();
  for (const name of ["package.json", "package-lock.json", "packages", "scripts", "node_modules"])
    await symlink(join(ROOT, name), join(cwd, name));
  await start(["serve"], { PORT: "0", RECORD_READS: "false" }, cwd).said("Tallystick is ready at");
  const { url, api_key } = JSON.parse(await readFile(join(cwd, "data/credentials.json"), "utf8"));
  const headers = { authorization: `Bearer ${api_key}`, "content-type": "application/json" };
  const events = EVENTS.map(([, event]) => event);
  const answer = await fetch(`${url}/v1/logs/bulk`, { method: "POST", headers, body: JSON.stringify({ events }) });
  expect(answer.status).toBe(201);
  const text = await readFile(join(ROOT, "docs/ready-queries.md"), "utf8");
  const page = text.replaceAll("2026", String(new Date().getUTCFullYear())); // the year that the entries are of
  const [begin, ...parts] = page.split(/^## /m);
  const blocksOf = (text: string) => [...text.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!);
  define = `set -eu\nexport API_KEY=${api_key}\n${blocksOf(begin!).join("").replace(DEFAULT_URL, url)}
    # The same without npm, which takes as long as the command.
    tallystick() { "${process.execPath}" --conditions=source packages/cli/src/main.ts "$@"; }`;
  sections = new Map(parts.map((text) => [text.slice(0, text.indexOf("\n")), blocksOf(text)]));
});
afterAll(cleanUp);

async function paste(block: string): Promise<string[]> {
  const outputs: string[] = [];
  for (const line of block.trim().split("\n")) {
    const { code, stdout, stderr } = await shell(`${define}\n${line}`, cwd);
    expect({ code, stderr: code === 0 ? "" : stderr }, line).toEqual({ code: 0, stderr: "" });
    outputs.push(stdout);
  }
  return outputs;
}

interface List {
  readonly data: readonly { readonly event: { readonly action: string } }[];
}

/** Runs the HTTP form and the command of one question; both say the same. */
async function ask(title: string, pair = 0): Promise<{ answers: string[]; shown: string[] }> {
  const blocks = sections.get(title)!;
  const [answers, shown] = await Promise.all([paste(blocks[pair * 2]!), paste(blocks[pair * 2 + 1]!)]);
  return { answers: answers!, shown: shown! };
}

/** The lists of one question. */
async function lists(title: string, pair = 0): Promise<string[][]> {
  const { answers, shown } = await ask(title, pair);
  return answers.map((text, i) => {
    const actions = (JSON.parse(text) as List).data.map(({ event }) => event.action);
    for (const action of actions) expect(shown[i]).toContain(action);
    expect(shown[i]!.trim().split("\n").length, shown[i]).toBe(actions.length + 2); // below a header and a rule
    return actions;
  });
}

test("each example finds what it is about", { timeout: 120_000 }, async () => {
  const answered = {
    user: await lists("A user's recent activity"),
    resource: await lists("Everything that happened to a resource"),
    logins: await lists("Failed logins of the last hour"),
    exports: await lists("Data exports in a year"),
    threads: await lists("Everything in one request, or in one session"),
    agent: await lists("What an agent did, and on whose behalf"),
  };
  expect(answered).toEqual({
    user: [about("alice")],
    resource: [about("order")],
    logins: [about("login")],
    exports: [about("export").toReversed()],
    threads: [about("request"), about("session")],
    agent: [about("agent")],
  });

  const byActor = await ask("Failed logins of the last hour", 1);
  expect(JSON.parse(byActor.answers[0]!)).toMatchObject({ entries: 2, values: [{ value: "u-3", entries: 2 }] });
  expect(byActor.shown[0]).toMatch(/^u-3 +2$/m);

  const byMonth = await ask("Data exports in a year", 1);
  const months = JSON.parse(byMonth.answers[0]!) as { entries: number; buckets: { local: string }[] };
  expect(months).toMatchObject({ entries: 2, time_zone: "Europe/Berlin" });
  // A date is a day in UTC: the last hour of the year is in the next one in Berlin.
  expect(months.buckets.map(({ local }) => local.slice(5, 7)).slice(0, 2)).toEqual(["01", "02"]);
  expect(byMonth.shown[0]).toMatch(/^Europe\/Berlin +entries$/m);

  const history = await ask("What changed in a field over time, and who last set it");
  expect(JSON.parse(history.answers[0]!)).toMatchObject({
    last_set: { actor: { id: "u-2" }, before: "new", after: "paid" },
    data: [{ action: "order.pay" }, { action: "order.create", after: "new" }],
  });
  expect(history.shown[0]).toMatch(/ u-2 +order\.pay +new +paid +/);

  const counts = await ask("How many, by anything");
  expect(JSON.parse(counts.answers[0]!).values[0]).toEqual({ value: "user.login", entries: 3 });
  expect(JSON.parse(counts.answers[1]!)).toMatchObject({ by: "outcome", interval: "day", time_zone: "Asia/Kolkata" });
  expect(counts.shown[0]).toMatch(/^user\.login +3$/m);
  expect(counts.shown[1]).toMatch(/^Asia\/Kolkata +entries +success +failure$/m);
});
