/**
 * Commitments: a personal value stands in the leaf as a salted hash, its value and salt (the opening) beside it, so that the
 * value can be erased and everything still verifies (docs/spec, section 3).
 */
import { sha256 } from "#sha256";
import { canonicalize } from "./canonical.ts";
import type { Actor, Event } from "./event.ts";
import { toHex } from "./hex.ts";
import type { JsonValue } from "./json.ts";

/** Size of the salts that we make, in bytes; a verifier takes any from 16 on. */
export const SALT_BYTES = 16;

const encoder = new TextEncoder();
const BLOCK_BYTES = 64;

/** The value and salt behind a commitment. */
export interface Opening {
  /** JSON pointer (RFC 6901) of the value in the leaf, such as `/event/context/ip`. */
  readonly pointer: string;
  readonly salt: Uint8Array;
  /** JCS form of the value. */
  readonly value: string;
}

/** HMAC-SHA256 (RFC 2104) by the one-shot hash: on Node twice as fast as an HMAC object, and it runs in browsers. */
function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  const block = key.length > BLOCK_BYTES ? sha256(key) : key;
  const inner = new Uint8Array(BLOCK_BYTES + message.length).fill(0x36, 0, BLOCK_BYTES);
  const outer = new Uint8Array(BLOCK_BYTES + 32).fill(0x5c, 0, BLOCK_BYTES);
  for (let i = 0; i < block.length; i++) {
    inner[i]! ^= block[i]!;
    outer[i]! ^= block[i]!;
  }
  inner.set(message, BLOCK_BYTES);
  outer.set(sha256(inner), BLOCK_BYTES);
  return sha256(outer);
}

/** Hex of HMAC-SHA256(salt, pointer || 0x00 || JCS(value)): what stands in the leaf as `{"$committed": ...}`. */
export function commitmentOf(opening: Opening): string {
  return toHex(hmacSha256(opening.salt, encoder.encode(`${opening.pointer}\0${opening.value}`)));
}

/**
 * Replaces the personal values of an event, by default `name` and `email` of its actors and `context.ip`.
 *
 * @param salt makes {@link SALT_BYTES} or more bytes from a CSPRNG; it is called once for each value.
 * @returns a new event, sharing what did not change, and the openings; the event itself where it holds nothing personal.
 */
export function commitEvent(event: Event, salt: () => Uint8Array): { event: Event; openings: Opening[] } {
  const openings: Opening[] = [];
  const commit = (pointer: string, value: JsonValue): never => {
    const opening = { pointer, salt: salt(), value: canonicalize(value) };
    openings.push(opening);
    // A commitment takes the place of a string; readers of leaves know by the lone `$committed` key.
    return { $committed: commitmentOf(opening) } as never;
  };
  const commitActor = (actor: Actor, pointer: string): Actor => {
    const { name, email, on_behalf_of: principal } = actor;
    if (name === undefined && email === undefined && principal === undefined) return actor;
    const committed = { ...actor };
    if (name !== undefined) committed.name = commit(`${pointer}/name`, name);
    if (email !== undefined) committed.email = commit(`${pointer}/email`, email);
    if (principal !== undefined) committed.on_behalf_of = commitActor(principal, `${pointer}/on_behalf_of`);
    return committed;
  };
  const actor = commitActor(event.actor, "/event/actor");
  const ip = event.context?.ip;
  if (actor === event.actor && ip === undefined) return { event, openings };
  const committed: Event = { ...event, actor };
  if (ip !== undefined) committed.context = { ...event.context, ip: commit("/event/context/ip", ip) };
  return { event: committed, openings };
}

/**
 * Whether an event has a value, or the commitment of one, where {@link commitEvent} commits. Takes any leaf's event, whatever
 * stands where actors should.
 */
export function hasPersonalValue({ actor, context }: Event): boolean {
  if (context?.ip !== undefined) return true;
  for (let next: Actor | null | undefined = actor; next; next = next.on_behalf_of) {
    if (next.name !== undefined || next.email !== undefined) return true;
  }
  return false;
}

/** The commitments that stand in a value of a leaf, by JSON pointer. */
export function commitmentsIn(value: unknown, pointer = "", found = new Map<string, string>()): Map<string, string> {
  if (typeof value !== "object" || value === null) return found;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) commitmentsIn(value[i], `${pointer}/${i}`, found);
    return found;
  }
  const members = value as Record<string, unknown>;
  for (const key in members) {
    if (key === "$committed" && isCommitment(members)) found.set(pointer, members[key]);
    else commitmentsIn(members[key], `${pointer}/${escapePointer(key)}`, found);
  }
  return found;
}

/** `$committed` beside other members is a client's own; alone, no client may send it. */
function isCommitment(value: unknown): value is { $committed: string } {
  if (typeof value !== "object" || value === null) return false;
  return typeof (value as { $committed?: unknown }).$committed === "string" && Object.keys(value).length === 1;
}

function escapePointer(token: string): string {
  return token.includes("~") || token.includes("/") ? token.replaceAll("~", "~0").replaceAll("/", "~1") : token;
}

/**
 * Puts the values of openings where their commitments stand, in place. An opening that fits no commitment of the leaf is left
 * out: what the reader sees is never a value that the leaf does not vouch for.
 *
 * @returns the pointers of openings that did not fit.
 */
export function openLeaf(leaf: object, openings: readonly Opening[]): string[] {
  const misfits: string[] = [];
  for (const opening of openings) {
    const tokens = opening.pointer
      .split("/")
      .slice(1)
      .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = tokens.pop();
    let parent: unknown = leaf;
    for (const token of tokens) parent = (parent as Record<string, unknown> | undefined)?.[token];
    const holder = parent as Record<string, unknown> | undefined;
    const committed = last === undefined ? undefined : holder?.[last];
    if (holder && last !== undefined && isCommitment(committed) && committed.$committed === commitmentOf(opening)) {
      holder[last] = JSON.parse(opening.value);
    } else {
      misfits.push(opening.pointer);
    }
  }
  return misfits;
}
