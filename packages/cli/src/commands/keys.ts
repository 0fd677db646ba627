/**
 * `tallystick keys`: the public keys that publishers sign their events with.
 */
import { generateKeyPairSync } from "node:crypto";
import { open as openFile, readFile } from "node:fs/promises";
import { parsePublicKeyPem } from "@tallystick/core/public-key";
import { loadConfig } from "@tallystick/server/config";
import type { ListedKey, ListedService } from "@tallystick/server/publisher/publisher-keys";
import { Command, InvalidArgumentError } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { CliError, messageOf } from "../errors.ts";
import { print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly json?: true;
}

interface NewKeyOptions extends Options {
  readonly service: string;
  readonly publicKey: string;
  readonly validFrom?: string;
  readonly validTo?: string;
  readonly overlap?: number;
}

const PATH = "/v1/admin/keys";
/** To be read by its owner alone. */
const PRIVATE_MODE = 0o600;
const PUBLIC_MODE = 0o644;

export function keysCommand(): Command {
  const command = new Command("keys")
    .description("list, register, rotate and revoke the keys that publishers sign with")
    .addHelpText(
      "after",
      `${SERVER_HELP}

Examples:
  $ tallystick keys generate orders.pem
  $ tallystick keys register --tenant acme --service orders --public-key orders.pub.pem
  $ tallystick keys rotate --tenant acme --service orders --public-key orders-2.pub.pem --overlap 600
  $ tallystick keys revoke --tenant acme orders:v1 --reason "laptop lost"
  $ tallystick keys signed-only --tenant acme orders`,
    );
  const sub = (usage: string, description: string) =>
    withServerOptions(command.command(usage).description(description))
      .option("--api-key <key>", "a key with scope admin, in place of the operator's token")
      .option("--tenant <id or slug>", "whose keys; default: the credential's tenant, or the tenant default")
      .option("--json", "print JSON");
  const withKey = (usage: string, description: string) =>
    sub(usage, description)
      .requiredOption("--service <id>", "the service that signs with it")
      .requiredOption("--public-key <file>", "its public half, PEM that begins with BEGIN PUBLIC KEY")
      .option("--valid-to <time>", "when it ends, RFC 3339; default: never");

  sub("list", "all keys of the tenant, ended and revoked ones too").action(async (options: Options) => {
    const { data } = await (await open(options)).request<{ data: ListedKey[] }>("GET", PATH);
    show(data, options, data);
  });
  withKey("register", "let a service sign with a key")
    .option("--valid-from <time>", "when it begins, RFC 3339; default: now")
    .action(async (options: NewKeyOptions) => {
      const body = {
        ...(await keyBody(options, "public_key_pem")),
        ...(options.validFrom !== undefined && { valid_from: options.validFrom }),
      };
      const key = await (await open(options)).request<ListedKey>("POST", PATH, body);
      show([key], options, key);
    });
  withKey("rotate", "replace a service's newest key; what the old one signed stays verified")
    .option("--overlap <seconds>", "how long the old key still signs; default: 3600", seconds)
    .action(async (options: NewKeyOptions) => {
      const body = {
        ...(await keyBody(options, "new_public_key_pem")),
        ...(options.overlap !== undefined && { overlap_seconds: options.overlap }),
      };
      const key = await (await open(options)).request<ListedKey>("POST", `${PATH}/rotate`, body);
      show([key], options, key);
    });
  sub("revoke <key>", "end a key at once and for good, by its id or key id")
    .option("--reason <text>", "why; it stands in the log")
    .action(async (key: string, options: Options & { readonly reason?: string }) => {
      const body = options.reason === undefined ? {} : { reason: options.reason };
      const path = `${PATH}/${encodeURIComponent(key)}/revoke`;
      const revoked = await (await open(options)).request<ListedKey>("POST", path, body);
      show([revoked], options, revoked);
    });
  sub("signed-only <service>", "take a service's events signed only")
    .option("--off", "take unsigned ones again")
    .action(async (service: string, options: Options & { readonly off?: true }) => {
      const path = `/v1/admin/services/${encodeURIComponent(service)}`;
      const body = { signed_only: options.off !== true };
      const changed = await (await open(options)).request<ListedService>("PATCH", path, body);
      if (options.json) printJson(changed);
      else print(`${changed.service_id}: ${changed.signed_only ? "signed events only" : "unsigned events too"}`);
    });
  command
    .command("generate <file>")
    .description(
      "make an Ed25519 key to try it out: <file> is the private key, <file without .pem>.pub.pem the public one",
    )
    .option("--json", "print JSON")
    .action(generate);
  return command;
}

/** Never over a file that is there: it may be the only copy of a key. */
async function generate(file: string, options: { readonly json?: true }): Promise<void> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const publicFile = `${file.replace(/\.pem$/, "")}.pub.pem`;
  await writeNew(file, privateKey.export({ type: "pkcs8", format: "pem" }) as string, PRIVATE_MODE);
  const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  await writeNew(publicFile, pem, PUBLIC_MODE);
  if (options.json) printJson({ private_key: file, public_key: publicFile, public_key_pem: pem });
  else {
    print(`private key: ${file} (keep it where the publisher runs, and nowhere else)`);
    print(`public key:  ${publicFile}`);
    print(`register it: tallystick keys register --service <id> --public-key ${publicFile}`);
  }
}

async function writeNew(file: string, text: string, mode: number): Promise<void> {
  try {
    const handle = await openFile(file, "wx", mode);
    try {
      await handle.writeFile(text);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") {
      throw new CliError(`${file} is there already, and may be the only copy of a key: name another file`, { cause });
    }
    throw new CliError(`${file} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

async function keyBody({ service, publicKey, validTo }: NewKeyOptions, name: string): Promise<Record<string, unknown>> {
  let pem: string;
  try {
    pem = await readFile(publicKey, "utf8");
  } catch (cause) {
    throw new CliError(`${publicKey} cannot be read: ${messageOf(cause)}`, { cause });
  }
  let algorithm: string;
  try {
    // Looked at here, so that a private key that was named by mistake is not sent anywhere.
    algorithm = parsePublicKeyPem(pem).algorithm;
  } catch (cause) {
    throw new CliError(`${publicKey} ${messageOf(cause)}`, { cause });
  }
  return { service_id: service, [name]: pem, algorithm, ...(validTo !== undefined && { valid_to: validTo }) };
}

function seconds(text: string): number {
  if (!/^\d{1,8}$/.test(text)) throw new InvalidArgumentError("must be a number of seconds");
  return Number(text);
}

function open(options: Options) {
  return openApi(loadConfig(), options, "admin-token");
}

function show(keys: readonly ListedKey[], options: Options, json: unknown): void {
  if (options.json) printJson(json);
  else
    print(
      formatTable(
        ["key id", "algorithm", "valid from", "valid to", "revoked", "id"],
        keys.map((key) => [key.key_id, key.algorithm, key.valid_from, key.valid_to, key.revoked_at, key.id]),
      ),
    );
}
