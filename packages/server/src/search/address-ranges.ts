/**
 * Ranges of addresses, as the index has them: those whose prefix ends where networks mostly do.
 */
import { ipBytes } from "@tallystick/core/ip";
import type { IpRange } from "@tallystick/core/ip-range";

const PREFIXES_V4 = [8, 16, 24, 32];
const PREFIXES_V6 = [16, 32, 48, 64, 128];

/** The names of the ranges that an address is in; none of a text that is no address. */
export function addressRanges(ip: string): string[] {
  const bytes = ipBytes(ip);
  if (bytes === undefined) return [];
  return prefixesOf(bytes).map((bits) => nameOf(bytes, bits));
}

/** The name of the smallest indexed range that has all of another one; undefined where there is none. */
export function rangeAround({ base, bits }: IpRange): string | undefined {
  const bytes = ipBytes(base)!;
  const prefix = prefixesOf(bytes).findLast((one) => one <= bits);
  return prefix === undefined ? undefined : nameOf(bytes, prefix);
}

function prefixesOf(bytes: readonly number[]): readonly number[] {
  return bytes.length === 4 ? PREFIXES_V4 : PREFIXES_V6;
}

function nameOf(bytes: readonly number[], bits: number): string {
  return `${bytes.length === 4 ? "v4" : "v6"}/${bits}/${Buffer.from(bytes.slice(0, bits / 8)).toString("hex")}`;
}
