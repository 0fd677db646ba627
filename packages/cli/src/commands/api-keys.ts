/**
 * `tallystick api-keys`: the keys that programs of a tenant write and read with.
 */
import type { ApiKey } from "@tallystick/server/access/issued-keys";
import { SCOPES } from "@tallystick/server/access/scopes";
import { loadConfig } from "@tallystick/server/config";
import { Command } from "commander";
import { openApi, SERVER_HELP, type ServerOptions, withServerOptions } from "../api.ts";
import { print, printJson } from "../output.ts";
import { formatTable } from "../table.ts";

interface Options extends ServerOptions {
  readonly json?: true;
}

interface CreateOptions extends Options {
  readonly name: string;
  readonly scopes: string;
  readonly service?: string;
  readonly expires?: string;
}

const PATH = "/v1/admin/api-keys";

export function apiKeysCommand(): Command {
  const command = new Command("api-keys").description("list, make and revoke the API keys of a tenant").addHelpText(
    "after",
    `${SERVER_HELP}

Examples:
  $ tallystick api-keys create --tenant acme --name "orders service" --scopes write --service orders
  $ tallystick api-keys list --tenant acme
  $ tallystick api-keys revoke --tenant acme 0e8d6c1e-5a0c-4a44-9d39-0d6f4a4f9f33`,
  );
  const sub = (usage: string, description: string) =>
    withServerOptions(command.command(usage).description(description))
      .option("--api-key <key>", "a key with scope admin, in place of the operator's token")
      .option("--tenant <id or slug>", "whose keys; default: the credential's tenant, or the tenant default")
      .option("--json", "print JSON");

  sub("list", "all keys of the tenant, revoked ones too").action(async (options: Options) => {
    const { data } = await (await open(options)).request<{ data: ApiKey[] }>("GET", PATH);
    show(data, options, data);
  });
  sub("create", "make a key; its secret is shown once")
    .requiredOption("--name <name>", "what it is for")
    .requiredOption("--scopes <list>", `what it may do, by commas: ${SCOPES.join(",")}`)
    .option("--service <id>", "the only service it may write for")
    .option("--expires <time>", "RFC 3339, such as 2030-01-01T00:00:00Z")
    .action(async (options: CreateOptions) => {
      const key = await (await open(options)).request<ApiKey & { secret: string }>("POST", PATH, {
        name: options.name,
        scopes: options.scopes.split(",").map((scope) => scope.trim()),
        ...(options.service !== undefined && { service_id: options.service }),
        ...(options.expires !== undefined && { expires_at: options.expires }),
      });
      show([key], options, key);
      if (!options.json) print(`\nsecret, shown only now: ${key.secret}`);
    });
  sub("revoke <id>", "end a key for good, within a second").action(async (id: string, options: Options) => {
    const key = await (await open(options)).request<ApiKey>("DELETE", `${PATH}/${encodeURIComponent(id)}`);
    show([key], options, key);
  });
  return command;
}

function open(options: Options) {
  return openApi(loadConfig(), options, "admin-token");
}

function show(keys: readonly ApiKey[], options: Options, json: unknown): void {
  if (options.json) printJson(json);
  else
    print(
      formatTable(
        ["id", "name", "begins", "scopes", "service", "expires", "revoked", "last used"],
        keys.map((key) => [
          key.id,
          key.name,
          key.prefix,
          key.scopes.join(","),
          key.service_id,
          key.expires_at,
          key.revoked_at,
          key.last_used_at,
        ]),
      ),
    );
}
