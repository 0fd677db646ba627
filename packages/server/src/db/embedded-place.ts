import { createHash } from "node:crypto";
import { chown, lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Account, canWriteIn } from "./embedded-account.ts";
import { EmbeddedPostgresError, systemCode } from "./embedded-error.ts";
import { makeDirectory, randomName } from "./embedded-files.ts";

/** Kept across restarts (never /tmp), root's own, and open to every user for passing through. */
const SHARED_PLACES = ["/var/lib/tallystick", "/opt/tallystick", "/srv/tallystick"];

/**
 * A directory of root's that `account` can pass through, for PostgreSQL's programs and data when those of the
 * checkout are out of its reach. Made when missing. Only root asks. Throws `no_place`.
 */
export async function sharedPlace(account: Account): Promise<string> {
  for (const place of SHARED_PLACES) {
    if ((await prepare(place)) && (await canReach(place, account))) return place;
  }
  throw new EmbeddedPostgresError(
    "no_place",
    `User ${account.name}, whom PostgreSQL runs as, can enter neither this checkout nor ${SHARED_PLACES.join(" or ")}. ` +
      "Set DATA_DIR to a directory that it can enter, start as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own.",
    { account: account.name },
  );
}

/**
 * A new path in the shared place for the data of `dataDir`: recognisable by its hash, never one that was used before,
 * so that data of an earlier `dataDir` of that name, deleted since, is neither taken over nor destroyed.
 */
export async function newPlace(dataDir: string, account: Account, log: (message: string) => void): Promise<string> {
  const shared = await sharedPlace(account);
  const hash = createHash("sha256").update(dataDir).digest("hex").slice(0, 12);
  const earlier = (await readdir(shared)).filter((name) => name.startsWith(`${hash}-`));
  for (const name of earlier) log(`${join(shared, name)} holds data of an earlier ${dataDir}; it is not used any more`);
  return join(shared, `${hash}-${randomName()}`);
}

async function prepare(place: string): Promise<boolean> {
  try {
    const parent = join(place, "..");
    await mkdir(parent, { recursive: true });
    await makeDirectory(place, 0o755);
    const found = await lstat(place);
    // Anyone else who may write here could exchange the programs that run.
    return found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0;
  } catch (error) {
    // A read-only or absent root file system: the next place may do.
    if (["EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR"].includes(systemCode(error) ?? "")) return false;
    throw error;
  }
}

async function canReach(place: string, account: Account): Promise<boolean> {
  const probe = join(place, `probe-${randomName()}`);
  await mkdir(probe);
  try {
    await chown(probe, account.uid, account.gid);
    return await canWriteIn(probe, account);
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}
