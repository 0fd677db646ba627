import pg from "pg";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";

/** The database that Tallystick lives in. */
export const DATABASE = "tallystick";

const CONNECT_TIMEOUT_MS = 5_000;

/** `postgres://...` for the superuser over TCP; the password is base64url, so nothing needs escaping. */
export function adminUrl(port: number, password: string): string {
  return `postgres://postgres:${password}@127.0.0.1:${port}/${DATABASE}`;
}

/**
 * Whether PostgreSQL answers at this port; makes the database when it is not there yet.
 * Throws `password_wrong` when it answers and does not know our password.
 */
export async function answers(port: number, password: string): Promise<boolean> {
  try {
    await withSession(port, password, DATABASE, async () => undefined);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === "3D000") return await createDatabase(port, password);
    // All connections are taken: somebody is being served.
    if (code === "53300") return true;
    if (code === "28P01") throw passwordWrong(port, error);
    // Refused, reset, timed out, or 57P03 (starting up, shutting down): not yet.
    return false;
  }
}

/** How many other clients are connected, and what they call themselves. */
export async function otherClients(port: number, password: string): Promise<string[]> {
  return await withSession(port, password, DATABASE, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      `select coalesce(nullif(application_name, ''), usename, 'unnamed') as name from pg_stat_activity
       where backend_type = 'client backend' and pid <> pg_backend_pid()`,
    );
    return rows.map(({ name }) => name);
  });
}

async function createDatabase(port: number, password: string): Promise<boolean> {
  try {
    await withSession(port, password, "postgres", (client) => client.query(`create database ${DATABASE}`));
  } catch (error) {
    // Another starter made it at the same moment.
    if (systemCode(error) !== "42P04" && systemCode(error) !== "23505") throw error;
  }
  return true;
}

async function withSession<T>(
  port: number,
  password: string,
  database: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port,
    user: "postgres",
    password,
    database,
    application_name: "tallystick embedded",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  });
  let lost: Error | undefined;
  // Without a listener, a connection that breaks between two queries would end the process.
  client.on("error", (error) => {
    lost = error;
  });
  try {
    await client.connect();
    const result = await work(client);
    if (lost !== undefined) throw lost;
    return result;
  } finally {
    await client.end();
  }
}

function passwordWrong(port: number, cause: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    "password_wrong",
    `PostgreSQL on port ${port} runs on our data but refuses the password in DATA_DIR/postgres.password. Restore that file, or set the role's password to what it says: ALTER ROLE postgres PASSWORD '...'.`,
    { port },
    { cause },
  );
}
