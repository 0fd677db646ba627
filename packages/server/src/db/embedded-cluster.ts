import { createHmac, randomBytes } from "node:crypto";
import { appendFile, chmod, chown, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type Account,
  canWriteIn,
  ownerAccount,
  runningAsRoot,
  runProgram,
  unprivilegedAccount,
} from "./embedded-account.ts";
import { type Binaries, doesNotRun } from "./embedded-binaries.ts";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";
import { createOnce, randomName, readIfPresent, replaceFile, syncDirectory } from "./embedded-files.ts";
import { newPlace } from "./embedded-place.ts";
import { settingsFile } from "./embedded-settings.ts";

/** Half-made clusters of starters that were killed are removed after this time; no initdb takes so long. */
const ABANDONED_AFTER_MS = 10 * 60_000;

/** One PostgreSQL data directory that exists and is ready to be started. */
export interface Cluster {
  readonly directory: string;
  /** The superuser's password, from which those of all other roles are derived. */
  readonly password: string;
}

/** Names of what Tallystick keeps in DATA_DIR about its PostgreSQL. */
export function dataFiles(dataDir: string) {
  return {
    cluster: join(dataDir, "postgres"),
    /** Names the cluster's directory where it could not be in DATA_DIR. */
    location: join(dataDir, "postgres.location"),
    password: join(dataDir, "postgres.password"),
    port: join(dataDir, "postgres.port"),
    starter: join(dataDir, "postgres.starter"),
    log: join(dataDir, "postgres.log"),
  } as const;
}

/** The password of a role, derived from the superuser's: the same for every replica, and kept nowhere else. */
export function rolePassword(superuserPassword: string, role: string): string {
  if (role === "postgres") return superuserPassword;
  return createHmac("sha256", superuserPassword).update(`tallystick role ${role}`).digest("base64url");
}

/**
 * Whom PostgreSQL has to run as on this data: undefined for ourselves.
 * Throws `data_missing`, `data_foreign` or `no_account`.
 */
export async function clusterAccount(dataDir: string): Promise<Account | undefined> {
  const existing = await locate(dataDir);
  if (existing === undefined) return runningAsRoot() ? await unprivilegedAccount() : undefined;
  const { uid, gid } = await stat(existing);
  if (uid === process.getuid?.() && uid !== 0) return undefined;
  if (runningAsRoot() && uid !== 0) return ownerAccount(uid, gid);
  throw foreign(existing, uid);
}

/**
 * Finds the cluster of `dataDir`, or makes it. Any number of starters may try at once: each makes its own beside the
 * place, and the rename (or the link of the file that names it) lets exactly one through; the others take that one.
 * A crash leaves either no cluster or a whole one.
 */
export async function openCluster(
  dataDir: string,
  binaries: Binaries,
  account: Account | undefined,
  settings: Readonly<Record<string, string>>,
  log: (message: string) => void,
): Promise<Cluster> {
  const files = dataFiles(dataDir);
  const found = await locate(dataDir);
  const known = await readIfPresent(files.password);
  if (found !== undefined && known === undefined) throw passwordMissing(files.password, found, binaries);
  const password =
    known ?? (await createOnce({ path: files.password, text: randomBytes(24).toString("base64url"), mode: 0o600 }));
  const directory = found ?? (await makeCluster(dataDir, binaries, account, password, log));
  await checkVersion(directory, binaries);
  await replaceFile({
    path: join(directory, "tallystick.conf"),
    text: settingsFile(settings),
    mode: 0o600,
    owner: account,
  });
  return { directory, password };
}

async function locate(dataDir: string): Promise<string | undefined> {
  const files = dataFiles(dataDir);
  const elsewhere = (await readIfPresent(files.location))?.trim();
  const directory = elsewhere ?? files.cluster;
  try {
    await stat(join(directory, "PG_VERSION"));
    return directory;
  } catch (cause) {
    if (systemCode(cause) === "EACCES") throw foreign(directory, (await stat(directory)).uid);
    if (systemCode(cause) !== "ENOENT") throw cause;
    // An empty new log in place of one that went missing would be the worst answer.
    if (elsewhere !== undefined) throw dataMissing(files.location, elsewhere, cause);
    return undefined;
  }
}

async function makeCluster(
  dataDir: string,
  binaries: Binaries,
  account: Account | undefined,
  password: string,
  log: (message: string) => void,
): Promise<string> {
  const files = dataFiles(dataDir);
  await removeAbandoned(dataDir);
  const draft = `${files.cluster}.init-${randomName()}`;
  await makeOwned(draft, account);
  if (account === undefined || (await canWriteIn(draft, account))) {
    try {
      await initdb(draft, binaries, account, password, log);
      return await claim(draft, files.cluster, dataDir);
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }
  await rm(draft, { recursive: true });
  const place = await newPlace(dataDir, account, log);
  await makeOwned(place, account);
  log(`keeping PostgreSQL's data in ${place}, because user ${account.name} cannot enter ${dataDir}`);
  let winner: string | undefined;
  try {
    await initdb(place, binaries, account, password, log);
    winner = (await createOnce({ path: files.location, text: `${place}\n`, mode: 0o644 })).trim();
    return winner;
  } finally {
    if (winner !== place) await rm(place, { recursive: true, force: true });
  }
}

async function claim(draft: string, cluster: string, dataDir: string): Promise<string> {
  try {
    await rename(draft, cluster);
    await syncDirectory(dataDir);
  } catch (error) {
    // Another starter's cluster is there already, whole.
    if (systemCode(error) !== "ENOTEMPTY" && systemCode(error) !== "EEXIST") throw error;
  }
  return cluster;
}

async function makeOwned(directory: string, account: Account | undefined): Promise<void> {
  await mkdir(directory);
  await chmod(directory, 0o700);
  if (account !== undefined) await chown(directory, account.uid, account.gid);
}

async function initdb(
  directory: string,
  binaries: Binaries,
  account: Account | undefined,
  password: string,
  log: (message: string) => void,
): Promise<void> {
  log("making a new PostgreSQL data directory");
  const passwordFile = join(directory, "..", `initdb-${randomName()}`);
  await replaceFile({ path: passwordFile, text: password, mode: 0o600, owner: account });
  try {
    const made = await runProgram(
      binaries.initdb,
      [
        `--pgdata=${directory}`,
        "--username=postgres",
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        // Sorts by code point and knows Unicode's letters, the same on every system and after every upgrade of libc.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
      ],
      account,
    );
    if (made.code === 127) throw doesNotRun(binaries.initdb, made.stderr);
    if (made.code !== 0) throw initdbFailed(directory, `${made.stdout}${made.stderr}`);
  } finally {
    await rm(passwordFile, { force: true });
  }
  await appendFile(
    join(directory, "postgresql.conf"),
    "\n# Tallystick's settings, with reasons. Lines below this one win over them.\ninclude = 'tallystick.conf'\n",
    { flush: true },
  );
}

async function removeAbandoned(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith("postgres.init-")) continue;
    const path = join(dataDir, name);
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > ABANDONED_AFTER_MS) await rm(path, { recursive: true, force: true });
  }
}

async function checkVersion(directory: string, binaries: Binaries): Promise<void> {
  const version = Number.parseInt((await readIfPresent(join(directory, "PG_VERSION"))) ?? "", 10);
  if (version === binaries.major) return;
  throw new EmbeddedPostgresError(
    "data_version",
    `The data in ${directory} was made by PostgreSQL ${version}, and this is PostgreSQL ${binaries.major}. Upgrade it with pg_upgrade, or dump and restore it, or start the earlier release of Tallystick.`,
    { directory, dataVersion: version, version: binaries.major },
  );
}

function foreign(directory: string, uid: number): EmbeddedPostgresError {
  const cure =
    uid === 0
      ? `Give it to the user that is to run PostgreSQL (chown -R postgres ${directory}).`
      : `Start as that user or as root, or give it away first (sudo chown -R "$(id -un)" ${directory}).`;
  return new EmbeddedPostgresError(
    "data_foreign",
    `PostgreSQL's data in ${directory} belongs to the user with id ${uid}, and PostgreSQL runs only as the owner of its data. ${cure}`,
    { directory, uid },
  );
}

function dataMissing(location: string, directory: string, cause: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    "data_missing",
    `${location} says that PostgreSQL's data is in ${directory}, which is not there. Bring it back (a disk not mounted, a backup), or delete ${location} to begin with an empty log.`,
    { location, directory },
    { cause },
  );
}

function passwordMissing(file: string, directory: string, binaries: Binaries): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    "password_missing",
    `PostgreSQL's data is in ${directory}, but the superuser's password is not in ${file}. Restore that file, or set a new password: ` +
      `with PostgreSQL stopped, as the owner of the data, run: echo "ALTER ROLE postgres PASSWORD 'NEW'" | ${binaries.postgres} --single -D ${directory} postgres, and write NEW to ${file}.`,
    { file, directory },
  );
}

function initdbFailed(directory: string, output: string): EmbeddedPostgresError {
  const tail = output.trim().split("\n").slice(-12).join("\n");
  return new EmbeddedPostgresError(
    "initdb_failed",
    `initdb could not make a PostgreSQL data directory in ${directory}. Check the room on the disk and the rights on the directory. It said:\n${tail}`,
    { directory },
  );
}
