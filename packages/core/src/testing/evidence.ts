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
import type { NoteSigner } from "../note.ts";
import { type HashReader, inclusionProof } from "../prover.ts";
import type { Publisher } from "../publisher.ts";
import { SYSTEM_SERVICE } from "../publisher-keys.ts";
import { rangeProof } from "../range-proof.ts";
import { sha256 } from "../sha256.ts";
import { leafHash, rootOf } from "../tree.ts";
import { formatVerifierKey, noteSigner } from "../verifier-key.ts";

export const LOG = "example.com/acme";

/** A log of the given events, a second apart. */
export class SmallLog {
  readonly leaves: { leaf: string; openings: Opening[] }[] = [];
  readonly hashes: Uint8Array[] = [];
  /** Positions of the server's own entries. */
  readonly system: number[] = [];
  readonly name: string;
  readonly signer: NoteSigner;
  readonly verifierKey: string;
  readonly #chains = new Map<string, { seq: number; prev: string }>();

  constructor(events: readonly Event[] = [], name = LOG) {
    this.name = name;
    this.signer = noteSigner(name, sha256("the log's key"));
    this.verifierKey = formatVerifierKey(this.signer.key);
    for (const event of events) this.append(event);
  }

  append(event: Event, service = event.service_id ?? "default", publisher?: Publisher): void {
    const seq = this.leaves.length;
    if (service === SYSTEM_SERVICE) this.system.push(seq);
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
        log: this.name,
        seq,
        id,
        recordedAt: new Date(at).toISOString().replace("Z", "000Z"),
        serviceId: service,
        serviceSeq,
        prev,
      },
      canonicalize(committed.event as never),
      publisher && canonicalize(publisher),
    );
    this.push(leaf, committed.openings);
    this.#chains.set(service, { seq: serviceSeq + 1, prev: toHex(this.hashes.at(-1)!) });
  }

  /** The server's entry that says that this log goes on for another, as of this size of it. */
  succeed(before: SmallLog, size = before.leaves.length): void {
    const root = toHex(rootOf(before.hashes.slice(0, size)));
    const metadata = { predecessor: before.name, signed: { size, root } };
    this.append({ action: "tallystick.log.succeeded", actor: { id: "operator" }, metadata }, SYSTEM_SERVICE);
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

  /** The newest checkpoint, cosigned, or the one of a size. */
  checkpoint(witnesses: readonly { by: Cosigner; time: number }[] = [], size = this.leaves.length): string {
    const root = rootOf(this.hashes.slice(0, size));
    const note = signCheckpoint({ origin: this.name, size, root }, [this.signer]);
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
      /** Positions of the server's own entries that are told of; all unless given. */
      history?: readonly number[];
      /** The log before, whose history goes on in this one, and its size then; all of it unless given. */
      before?: SmallLog;
      beforeSize?: number;
    } = {},
  ): string {
    const { from = 0, to = this.leaves.length, only, filter = {}, witnesses, witnessKeys = [] } = options;
    const { history = this.system, before, beforeSize = before?.leaves.length } = options;
    const selection: EvidenceSelection =
      only === undefined ? { kind: "range", from, to, asked: {} } : { kind: "filter", from, to, filter };
    const writer = new EvidenceWriter();
    const treeSize = this.leaves.length;
    const header = writer.header({
      log: this.name,
      verifierKey: this.verifierKey,
      witnessKeys,
      checkpoint: this.checkpoint(witnesses),
      selection,
      ...(only === undefined && { rangeProof: rangeProof({ from, to, treeSize }, this.#read) }),
      createdAt: "2026-02-01T00:00:00.000000Z",
      generator: "test",
    });
    const lines = [header];
    if (before !== undefined) {
      const note = before.checkpoint([], beforeSize);
      lines.push(
        writer.predecessor(this.leaves[0]!.leaf, this.hashes[0]!, inclusionProof(0, treeSize, this.#read), note),
      );
      for (const seq of before.system) {
        if (seq < beforeSize!) lines.push(before.#historyLine(writer, seq, beforeSize!));
      }
    }
    for (const seq of history) lines.push(this.#historyLine(writer, seq, treeSize));
    const positions = only ?? Array.from({ length: to - from }, (_, i) => from + i);
    for (const seq of positions) {
      const { leaf, openings } = this.leaves[seq]!;
      lines.push(writer.entry(leaf, this.hashes[seq]!, openings, only && inclusionProof(seq, treeSize, this.#read)));
    }
    return lines.join("") + writer.manifest();
  }

  #historyLine(writer: EvidenceWriter, seq: number, treeSize: number): string {
    return writer.keyChange(this.leaves[seq]!.leaf, this.hashes[seq]!, inclusionProof(seq, treeSize, this.#read));
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
