/**
 * Evidence files of small logs for tests: made with keys that anyone knows, without a server.
 */
import { canonicalize } from "../canonical.ts";
import { signCheckpoint } from "../checkpoint.ts";
import { commitEvent, type Opening } from "../commitment.ts";
import { addSignature, type Cosigner, cosigner } from "../cosignature.ts";
import type { Event } from "../event.ts";
import { type EvidenceSelection, EvidenceWriter } from "../evidence.ts";
import { toHex } from "../hex.ts";
import { leafText, NO_PREVIOUS } from "../leaf.ts";
import { type HashReader, inclusionProof } from "../prover.ts";
import { rangeProof } from "../range-proof.ts";
import { sha256 } from "../sha256.ts";
import { leafHash, rootOf } from "../tree.ts";
import { formatVerifierKey, noteSigner } from "../verifier-key.ts";

export const LOG = "example.com/acme";

/** A log of the given events, a second apart. */
export class SmallLog {
  readonly leaves: { leaf: string; openings: Opening[] }[] = [];
  readonly hashes: Uint8Array[] = [];
  readonly signer = noteSigner(LOG, sha256("the log's key"));
  readonly verifierKey = formatVerifierKey(this.signer.key);
  readonly #chains = new Map<string, { seq: number; prev: string }>();

  constructor(events: readonly Event[] = []) {
    for (const event of events) this.append(event);
  }

  append(event: Event, service = event.service_id ?? "default"): void {
    const seq = this.leaves.length;
    let salts = 0;
    const committed = commitEvent(event, () => sha256(`salt ${seq} ${salts++}`).subarray(0, 16));
    const { seq: serviceSeq, prev } = this.#chains.get(service) ?? { seq: 0, prev: NO_PREVIOUS };
    const at = Date.UTC(2026, 0, 31, 12) + seq * 1_000;
    const id = `${at
      .toString(16)
      .padStart(12, "0")
      .replace(/^(.{8})/, "$1-")}-7${toHex(sha256(`id ${seq}`)).replace(/^(.{3})(.{3})(.{12}).*/, "$1-8$2-$3")}`;
    const leaf = leafText(
      {
        log: LOG,
        seq,
        id,
        recordedAt: new Date(at).toISOString().replace("Z", "000Z"),
        serviceId: service,
        serviceSeq,
        prev,
      },
      canonicalize(committed.event as never),
    );
    this.push(leaf, committed.openings);
    this.#chains.set(service, { seq: serviceSeq + 1, prev: toHex(this.hashes.at(-1)!) });
  }

  /** Any bytes as the next leaf: what only the holder of the log's key can do. */
  push(leaf: string, openings: Opening[] = []): void {
    this.leaves.push({ leaf, openings });
    this.hashes.push(leafHash(leaf));
  }

  erase(seq: number, pointer: string): void {
    const entry = this.leaves[seq]!;
    entry.openings = entry.openings.filter((opening) => opening.pointer !== pointer);
  }

  /** The newest checkpoint, cosigned. */
  checkpoint(witnesses: readonly { by: Cosigner; time: number }[] = []): string {
    const note = signCheckpoint({ origin: LOG, size: this.leaves.length, root: rootOf(this.hashes) }, [this.signer]);
    const { text } = { text: note.slice(0, note.lastIndexOf("\n\n") + 1) };
    return witnesses.reduce((signed, { by, time }) => addSignature(signed, by.cosign(text, time)), note);
  }

  /** An evidence file of all of [from, to), or of the positions given. */
  evidence(
    options: {
      from?: number;
      to?: number;
      only?: readonly number[];
      filter?: Readonly<Record<string, string>>;
      witnesses?: readonly { by: Cosigner; time: number }[];
      witnessKeys?: readonly string[];
    } = {},
  ): string {
    const { from = 0, to = this.leaves.length, only, filter = {}, witnesses, witnessKeys = [] } = options;
    const selection: EvidenceSelection =
      only === undefined ? { kind: "range", from, to, asked: {} } : { kind: "filter", from, to, filter };
    const writer = new EvidenceWriter();
    const treeSize = this.leaves.length;
    const header = writer.header({
      log: LOG,
      verifierKey: this.verifierKey,
      witnessKeys,
      checkpoint: this.checkpoint(witnesses),
      selection,
      ...(only === undefined && { rangeProof: rangeProof({ from, to, treeSize }, this.#read) }),
      createdAt: "2026-02-01T00:00:00.000000Z",
      generator: "test",
    });
    const positions = only ?? Array.from({ length: to - from }, (_, i) => from + i);
    const entries = positions.map((seq) => {
      const { leaf, openings } = this.leaves[seq]!;
      return writer.entry(leaf, this.hashes[seq]!, openings, only && inclusionProof(seq, treeSize, this.#read));
    });
    return header + entries.join("") + writer.manifest();
  }

  readonly #read: HashReader = (height, index) =>
    rootOf(this.hashes.slice(index * 2 ** height, (index + 1) * 2 ** height));
}

export const testWitness = (name = "witness.example/w") => cosigner(name, sha256(name));

/** A log of `count` events with something of everything in it. */
export function variedLog(count: number): SmallLog {
  return new SmallLog(
    Array.from({ length: count }, (_, i): Event => {
      const service = { service_id: i % 3 === 0 ? "orders" : "users" };
      if (i % 4 === 1) {
        return {
          ...service,
          action: "user.login",
          actor: { id: `u-${i}`, name: "Zoë Ångström", email: "zoe@example.com" },
          context: { ip: "192.0.2.7" },
          outcome: i % 8 === 1 ? "failure" : "success",
        };
      }
      return { ...service, action: "order.create", actor: { id: `u-${i}` }, resource: { type: "order", id: `${i}` } };
    }),
  );
}
