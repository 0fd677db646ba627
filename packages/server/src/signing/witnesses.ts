/**
 * The witnesses of this server: each published checkpoint is offered to all of them, and what they cosign is kept. Recording never
 * waits for any of this, and never stops because of it.
 */
import { toHex } from "@tallystick/core/hex";
import { identity } from "@tallystick/core/note";
import { formatVerifierKey } from "@tallystick/core/verifier-key";
import type { Database } from "../db/database.ts";
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { LogReader } from "../log/log-reader.ts";
import { Turns } from "../turns.ts";
import type { SignedCheckpoint } from "./published.ts";
import type { Cosigned } from "./witness-dialogue.ts";
import { WitnessLink, type WitnessLogger, type WitnessStatus } from "./witness-link.ts";
import type { WitnessAddress } from "./witness-request.ts";

export interface WitnessesOptions {
  readonly database: Database;
  readonly addresses: readonly WitnessAddress[];
  readonly timeoutMs: number;
  readonly reader: LogReader;
  /** The newest published checkpoint of a log. */
  readonly newest: (log: LogIdentity) => Promise<SignedCheckpoint | undefined>;
  readonly logger: WitnessLogger;
}

/** A witness as a tenant is shown it. */
export interface WitnessReport extends WitnessStatus {
  readonly name: string;
  readonly url: string;
  readonly vkey: string;
  /** Size of the newest checkpoint of the log that it cosigned. */
  readonly lastSize: number | undefined;
  /** When it did, by its own clock. */
  readonly lastTime: Date | undefined;
}

// Checkpoints that a server published which died before their cosignatures came: seldom, and any other may ask for them.
const SWEEP_MS = 60_000;

export class Witnesses {
  readonly #options: WitnessesOptions;
  readonly #links: readonly WitnessLink[];
  // The connections that proofs are made by are few, and the answers to writes need them: witnesses have one at most.
  readonly #turns = new Turns();
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: WitnessesOptions) {
    this.#options = options;
    const { timeoutMs, logger, newest } = options;
    this.#links = options.addresses.map(
      (address) =>
        new WitnessLink(address, {
          timeoutMs,
          logger,
          prove: (log, oldSize, checkpoint) => this.#turns.take(() => this.#prove(log, oldSize, checkpoint)),
          newest: (log) => this.#turns.take(() => newest(log)),
          keep: (log, cosigned) => this.#turns.take(() => this.#keep(log, identity(address.key), cosigned)),
        }),
    );
  }

  /** Their verifier keys. */
  get vkeys(): string[] {
    return this.#links.map(({ address }) => formatVerifierKey(address.key));
  }

  /** Begins with the newest checkpoints that lack a cosignature. */
  start(): void {
    if (this.#links.length > 0) this.#schedule(0);
  }

  /** A checkpoint was published. Costs nothing, and never throws. */
  offer(log: LogIdentity, checkpoint: SignedCheckpoint): void {
    if (this.#stopped) return;
    for (const link of this.#links) link.offer(log, checkpoint);
  }

  /** Ends what is under way; what was not cosigned is offered at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#sweeping;
    await Promise.all(this.#links.map((link) => link.stop()));
  }

  /** How it stands between each witness and this log, as this server sees it. */
  async report(log: LogIdentity): Promise<WitnessReport[]> {
    const rows = await this.#options.database.readLatest(log.tenantId, async (client) => {
      const { rows } = await client.query<{ witness: string; size: string; cosigned_at: Date }>(
        `select asked.witness, last.size, last.cosigned_at from unnest($2::text[]) as asked (witness)
         cross join lateral (
           select size, cosigned_at from tallystick.cosignatures c
           where c.log_id = $1 and c.witness = asked.witness order by size desc limit 1
         ) last`,
        [log.logId, this.#links.map(({ address }) => identity(address.key))],
      );
      return new Map(rows.map((row) => [row.witness, row]));
    });
    return this.#links.map((link) => {
      const { key, url } = link.address;
      const last = rows.get(identity(key));
      const own = link.statusOf(log.logId);
      return {
        name: key.name,
        url,
        vkey: formatVerifierKey(key),
        lastSize: last === undefined ? undefined : Number(last.size),
        lastTime: last?.cosigned_at,
        // Another server may be the one that asks.
        ...(own.status === "waiting" && last !== undefined ? { status: "ok" } : own),
      };
    });
  }

  /** What is wrong, a sentence a witness; undefined where there are no witnesses. */
  problems(): string[] | undefined {
    if (this.#links.length === 0) return undefined;
    return this.#links.flatMap((link) => {
      // The worst that can be said comes first.
      const failures = link.failures.sort((a, b) => rank(b.failure.status) - rank(a.failure.status));
      const [first] = failures;
      if (first === undefined) return [];
      const { status, since, detail } = first.failure;
      const others = failures.length > 1 ? ` and ${failures.length - 1} more` : "";
      const about = first.log === undefined ? "" : ` for ${first.log}${others}`;
      const alarm = status === "conflict" ? ", which saw another history (docs/witnesses.md)" : "";
      return [`${identity(link.address.key)}${alarm}: ${status}${about} since ${since.toISOString()}: ${detail}`];
    });
  }

  async #prove(log: LogIdentity, oldSize: number, { size, root }: SignedCheckpoint): Promise<readonly Uint8Array[]> {
    const { newRoot, proof } = await this.#options.reader.consistency(log, oldSize, size);
    // What the witness would refuse because our own rows were changed is not the witness's alarm.
    if (toHex(newRoot) === toHex(root)) return proof;
    throw new AppendError(
      "inconsistent",
      `the stored hashes of ${log.name} do not give the root that was signed at size ${size}: run "tallystick verify" and keep the database as it is`,
    );
  }

  async #keep(log: LogIdentity, witness: string, { checkpoint, line, time }: Cosigned): Promise<void> {
    await this.#options.database.control(async (transaction) => {
      const kept = transaction.client.query("select tallystick.keep_cosignature($1, $2, $3, $4, to_timestamp($5))", [
        log.logId,
        checkpoint.size,
        witness,
        line,
        time,
      ]);
      await transaction.commit([kept]);
    });
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#sweeping = this.#sweep().finally(() => {
        if (!this.#stopped) this.#schedule(SWEEP_MS);
      });
    }, delayMs).unref();
  }

  async #sweep(): Promise<void> {
    const { database, logger } = this.#options;
    try {
      const rows = await database.query<{
        log_id: number;
        tenant_id: string;
        name: string;
        size: string;
        root: Buffer;
        note: string;
      }>("select log_id, tenant_id, name, size, root, note from tallystick.uncosigned_checkpoints($1)", [
        this.#links.map(({ address }) => identity(address.key)),
      ]);
      for (const { log_id: logId, tenant_id: tenantId, name, size, root, note } of rows) {
        this.offer({ logId, tenantId, name }, { size: Number(size), root, note });
      }
      const failing = this.#links.flatMap((link) => link.failing.map(({ log }) => log.logId));
      if (failing.length === 0) return;
      const closed = await database.query<{ logId: number }>(
        `select predecessor_id as "logId" from tallystick.logs where predecessor_id = any ($1)`,
        [failing],
      );
      for (const { logId } of closed) for (const link of this.#links) link.drop(logId);
    } catch (error) {
      logger.error({ err: error }, "checkpoints without cosignatures could not be looked for: tried again in a minute");
    }
  }
}

function rank(status: WitnessStatus["status"]): number {
  return ["waiting", "ok", "silent", "refused", "unproved", "invalid", "conflict"].indexOf(status);
}
