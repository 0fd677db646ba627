/**
 * A connection for SQL that a person typed: values as PostgreSQL writes them, the rights of one role.
 */
import type { Config } from "@tallystick/server/config";
import { Client, type FieldDef } from "pg";
import type { OpenDatabase } from "./connect.ts";
import { CliError } from "./errors.ts";

export const SQL_ROLES = ["reader", "auditor", "admin"] as const;
export type SqlRole = (typeof SQL_ROLES)[number];

/** What one statement gave. `columns` is empty for a statement without rows. */
export interface SqlResult {
  readonly columns: readonly FieldDef[];
  readonly rows: readonly (readonly (string | null)[])[];
  /** `SELECT 3`, `CREATE TABLE`. */
  readonly tag: string;
}

const AS_TEXT = { getTypeParser: () => (value: string) => value };

export class SqlSession {
  readonly #client: Client;

  private constructor(client: Client) {
    this.#client = client;
  }

  /**
   * Logs in. Where the server runs its own PostgreSQL, as the role itself; elsewhere the URL's role takes the role's place.
   * @throws {CliError} where that role may not.
   */
  static async open(
    config: Config,
    { url, embedded }: OpenDatabase,
    role: SqlRole,
    tenant?: string,
  ): Promise<SqlSession> {
    const client = new Client({
      connectionString: urlFor(config, { url, embedded }, role),
      application_name: "tallystick sql",
    });
    await client.connect();
    try {
      await client.query("set timezone = 'UTC'; set search_path = tallystick, public");
      if (role !== "admin" && embedded === undefined) await takeRole(client, `tallystick_${role}`);
      if (tenant !== undefined) await setTenant(client, tenant);
    } catch (error) {
      await client.end();
      throw error;
    }
    return new SqlSession(client);
  }

  /** Runs statements; a result for each. @throws {import("pg").DatabaseError} */
  async run(text: string): Promise<SqlResult[]> {
    // "types" is honoured by every query; its declaration knows it for prepared ones only.
    const query = { text, rowMode: "array" as const, types: AS_TEXT };
    const answer: unknown = await this.#client.query<(string | null)[]>(query);
    const results = (Array.isArray(answer) ? answer : [answer]) as {
      fields: FieldDef[];
      rows: (string | null)[][];
      command: string | null;
      rowCount: number | null;
    }[];
    return results
      .filter(({ command }) => command !== null)
      .map(({ fields, rows, command, rowCount }) => ({
        columns: fields,
        rows,
        tag: rowCount === null ? command! : `${command} ${rowCount}`,
      }));
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

function urlFor(config: Config, { url, embedded }: OpenDatabase, role: SqlRole): string {
  if (role === "admin") return url;
  if (embedded === undefined) {
    const { database } = config;
    return (role === "reader" && database.kind === "external" && database.readerUrl) || url;
  }
  const own = new URL(url);
  own.username = `tallystick_${role}`;
  own.password = embedded.passwordFor(own.username);
  return own.href;
}

async function takeRole(client: Client, role: string): Promise<void> {
  try {
    await client.query(`set role ${role}`);
  } catch (cause) {
    throw new CliError(
      `the database's user may not become ${role} (${(cause as Error).message}): set DATABASE_ADMIN_URL to one who may, or give --role admin to stay who you are`,
      { cause },
    );
  }
}

/** Sets the tenant whose rows the reader sees, by id or slug. */
async function setTenant(client: Client, idOrSlug: string): Promise<void> {
  const { rows } = await client.query<{ id: string }>(
    "select set_config('tallystick.tenant_id', id::text, false) as id from tallystick.tenant_named($1) id where id is not null",
    [idOrSlug.toLowerCase()],
  );
  if (rows[0] === undefined) throw new CliError(`there is no tenant "${idOrSlug}"`);
}
