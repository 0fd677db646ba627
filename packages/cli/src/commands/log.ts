/**
 * `tallystick log`: a tenant's logs, what is signed of them, and their succession.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { fromBase64 } from "@tallystick/core/base64";
import { type Checkpoint, openCheckpoint } from "@tallystick/core/checkpoint";
import { toHex } from "@tallystick/core/hex";
import { ProofError, verifyConsistency } from "@tallystick/core/proof";
import { parseVerifierKey } from "@tallystick/core/verifier-key";
import { loadConfig } from "@tallystick/server/config";
import type { LogFacts } from "@tallystick/server/log/tenants";
import { Command } from "commander";
import { type Api, openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError, describeError } from "../errors.ts";
import { note, print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly json?: true;
  readonly log?: string;
}

type Listed = Pick<LogFacts, "name" | "slug" | "size" | "root" | "predecessor" | "current"> & {
  readonly created_at: string;
  readonly vkey: string;
  readonly signed: { readonly size: number } | null;
  readonly refused: string | null;
};

interface ListedWitness {
  readonly name: string;
  readonly last_size: number | null;
  readonly last_time: string | null;
  readonly status: string;
  readonly since: string | null;
  readonly detail: string | null;
}

export function logCommand(): Command {
  const command = new Command("log").description(
    "list a tenant's logs, show and check what is signed, open a successor",
  );
  command.addHelpText(
    "after",
    `${SERVER_HELP}

Examples:
  $ tallystick log list
  $ tallystick log checkpoint > newest.checkpoint
  $ tallystick log check newest.checkpoint --key "$(cat log.vkey)"
  $ tallystick log succeed --tenant default --reason "the disk failed; restored from last night's backup"`,
  );
  const sub = (usage: string, description: string) =>
    withServerOptions(command.command(usage).description(description))
      .option("--api-key <key>", "a key of the tenant, with any scope, in place of the operator's token")
      .option("--tenant <tenant>", "id or slug", "default")
      .option("--json", "print JSON");

  sub("list", "the tenant's logs, oldest first; the last one is written to").action(async (options: Options) => {
    const { data } = await (await open(options)).request<{ data: Listed[] }>("GET", `${tenantPath(options)}/logs`);
    if (options.json) return printJson(data);
    print(
      formatTable(
        ["log", "size", "signed", "current", "succeeds", "created"],
        data.map(({ slug, size, signed, current, predecessor, created_at }) => [
          slug,
          String(size),
          signed === null ? "" : String(signed.size),
          current ? "yes" : "no",
          predecessor ?? "",
          created_at,
        ]),
      ),
    );
    for (const { refused } of data) if (refused !== null) print(`\nREFUSED: ${refused}`);
  });

  sub("checkpoint", "the newest published checkpoint: a C2SP signed note, with its witnesses' cosignatures")
    .option("--log <slug>", "an earlier log of the tenant")
    .option("--cosigned <number>", "the newest that so many witnesses have cosigned")
    .action(async (options: Options & { cosigned?: string }) => {
      const query = options.cosigned === undefined ? "" : `?cosigned=${encodeURIComponent(options.cosigned)}`;
      process.stdout.write(await (await open(options)).text(`${logPath(options)}/checkpoint${query}`));
    });

  sub("witnesses", "who cosigns the log's checkpoints, and how it stands with each")
    .option("--log <slug>", "an earlier log of the tenant")
    .action(async (options: Options) => {
      const { data } = await (await open(options)).request<{ data: ListedWitness[] }>(
        "GET",
        `${logPath(options)}/witnesses`,
      );
      if (options.json) return printJson(data);
      print(
        formatTable(
          ["witness", "cosigned size", "at", "status", "since", "detail"],
          data.map(({ name, last_size, last_time, status, since, detail }) => [
            name,
            String(last_size ?? ""),
            last_time ?? "",
            status,
            since ?? "",
            detail ?? "",
          ]),
        ),
      );
    });

  sub("vkey", "the key that the log's checkpoints verify by: keep it where the server cannot change it")
    .option("--log <slug>", "an earlier log of the tenant")
    .action(async (options: Options) => {
      process.stdout.write(await (await open(options)).text(`${logPath(options)}/vkey`));
    });

  sub("check <file>", "prove that the log only grew since the checkpoint in the file, and keep the newest one there")
    .requiredOption("--key <vkey>", "the log's verifier key, from where you keep it")
    .option("--log <slug>", "an earlier log of the tenant")
    .addHelpText("after", "\nExits with 0 where it did, 1 where history was changed, 2 where it could not be checked.")
    .action(async (file: string, options: Options & { key: string }) => {
      try {
        process.exitCode = await check(file, options);
      } catch (error) {
        note(`tallystick: could not check: ${describeError(error)}`);
        process.exitCode = 2;
      }
    });

  sub(
    "succeed",
    "close a log that is refused and open its successor, whose first entry cites the last signed checkpoint",
  )
    .option("--force", "also a log that nothing is wrong with; it cannot be undone")
    .requiredOption("--reason <text>", "why: stands in the new log for good")
    .action(succeed);
  return command;
}

async function succeed(options: Options & { reason: string; force?: true }): Promise<void> {
  const { reason, force = false } = options;
  const successor = await (await openApi(loadConfig(), options, "admin-token")).request<{
    name: string;
    predecessor: string;
    entry_id: string;
    checkpoint: string | null;
  }>("POST", `${tenantPath(options)}/log/succeed`, { reason, force });
  if (options.json) return printJson(successor);
  const { name, predecessor, entry_id, checkpoint } = successor;
  print(`${name} succeeds ${predecessor}; its first entry is ${entry_id}.`);
  print(checkpoint === null ? "Nothing of the closed log was ever signed." : `It cites:\n\n${checkpoint}`);
  print("Witnesses know a log by its key's name: give them the new one (tallystick log vkey).");
}

/** 0, or 1 where the log does not extend what was kept, which then stays as it is. */
async function check(file: string, options: Options & { key: string }): Promise<number> {
  const key = parseVerifierKey(options.key.trim());
  const api = await open(options);
  const kept = await keptCheckpoint(file, (text) => openCheckpoint(text, key, key.name));
  const text = await api.text(`${logPath(options)}/checkpoint`);
  const [shown] = text.split("\n");
  if (shown !== key.name) {
    throw new CliError(
      `the server shows ${shown} and the key is that of ${key.name}: the log has a successor, or it is another one. Check the old log with --log <slug> (tallystick log list), and keep a file and a key (tallystick log vkey) for the new one: its first entry cites the old one`,
    );
  }
  const newest = openCheckpoint(text, key, key.name);
  const wrong = kept === undefined ? undefined : await whatIsWrong(api, options, kept, newest);
  if (wrong === undefined) {
    await writeFile(`${file}.next`, text);
    await rename(`${file}.next`, file);
  } else {
    await writeFile(`${file}.conflict`, text);
  }
  if (options.json) {
    const { size, root } = newest;
    printJson({
      ok: wrong === undefined,
      log: key.name,
      size,
      root: toHex(root),
      kept: kept?.size ?? null,
      problem: wrong,
    });
  } else if (wrong !== undefined) {
    print(
      `${key.name}: ${wrong}\nKeep ${file} and ${file}.conflict, both signed by one key: whoever has the verifier key is convinced by them.`,
    );
  } else {
    print(
      `${key.name} at size ${newest.size}: ${kept === undefined ? "kept" : `extends what was kept at size ${kept.size}`}`,
    );
  }
  return wrong === undefined ? 0 : 1;
}

/** Why the newest checkpoint is no continuation of the one that was kept. */
async function whatIsWrong(
  api: Api,
  options: Options,
  kept: Checkpoint,
  newest: Checkpoint,
): Promise<string | undefined> {
  if (newest.size < kept.size) {
    return `the log had ${kept.size} entries and shows ${newest.size}: entries were cut off, or an old copy is served. The larger note proves that they were there`;
  }
  const { proof } = await api.request<{ proof: string[] }>(
    "GET",
    `${logPath(options)}/consistency?from=${kept.size}&to=${newest.size}`,
  );
  try {
    verifyConsistency({
      oldSize: kept.size,
      newSize: newest.size,
      oldRoot: kept.root,
      newRoot: newest.root,
      proof: proof.map(fromBase64),
    });
    return undefined;
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    return `the log of ${newest.size} entries does not extend the one of ${kept.size} that was kept: history was changed`;
  }
}

async function keptCheckpoint(file: string, read: (text: string) => Checkpoint): Promise<Checkpoint | undefined> {
  try {
    return read(await readFile(file, "utf8"));
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  }
}

function open(options: Options): Promise<Api> {
  return openApi(loadConfig(), options, "any");
}

function tenantPath({ tenant = "default" }: Options): string {
  return `/v1/tenants/${encodeURIComponent(tenant)}`;
}

function logPath(options: Options): string {
  return options.log === undefined
    ? `${tenantPath(options)}/log`
    : `${tenantPath(options)}/logs/${encodeURIComponent(options.log)}`;
}
