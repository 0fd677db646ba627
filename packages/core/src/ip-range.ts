/**
 * Ranges of IP addresses (CIDR, RFC 4632 and RFC 4291, section 2.3).
 */
import { ipBytes, normalizeIp } from "./ip.ts";

/** Addresses that share their first `bits` bits with `base`, which has zeros behind them. */
export interface IpRange {
  /** As `normalizeIp` writes it. */
  readonly base: string;
  readonly bits: number;
}

/**
 * An address, which is a range of one, or a CIDR range such as `10.0.0.0/8`. Undefined where the text is neither, or has bits set
 * behind the prefix: `10.0.0.1/8` may as well have been meant as the address.
 */
export function parseIpRange(text: string): IpRange | undefined {
  const [address, prefix, ...more] = text.split("/");
  const base = normalizeIp(address!);
  if (base === undefined || more.length > 0) return undefined;
  const bytes = ipBytes(base)!;
  if (prefix === undefined) return { base, bits: bytes.length * 8 };
  if (!/^(0|[1-9]\d{0,2})$/.test(prefix)) return undefined;
  // An IPv4-mapped base has become IPv4, and with it its prefix.
  const bits = Number(prefix) - (address!.includes(":") && bytes.length === 4 ? 96 : 0);
  if (bits < 0 || bits > bytes.length * 8) return undefined;
  for (let bit = bits; bit < bytes.length * 8; bit++) if (bitAt(bytes, bit) !== 0) return undefined;
  return { base, bits };
}

/** Whether an address, as `normalizeIp` writes it, is in the range; what is no address is in none. */
export function isInRange(address: string, { base, bits }: IpRange): boolean {
  const [bytes, wanted] = [ipBytes(address), ipBytes(base)!];
  if (bytes?.length !== wanted.length) return false;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== wanted[i]) return false;
  return (bits & 7) === 0 || (bytes[whole]! ^ wanted[whole]!) >> (8 - (bits & 7)) === 0;
}

/** The addresses of a range, as `normalizeIp` writes them; undefined where there are more than `most`, which is up to 256. */
export function addressesIn({ base, bits }: IpRange, most: number): string[] | undefined {
  const bytes = ipBytes(base)!;
  const count = 2 ** (bytes.length * 8 - bits);
  if (count > most) return undefined;
  return Array.from({ length: count }, (_, i) => {
    const address = bytes.with(-1, bytes.at(-1)! + i); // the bits behind the prefix are zeros, and are all in the last byte
    return bytes.length === 4 ? address.join(".") : normalizeIp(hexGroups(address))!;
  });
}

function hexGroups(bytes: readonly number[]): string {
  return Array.from({ length: 8 }, (_, i) => (bytes[i * 2]! * 256 + bytes[i * 2 + 1]!).toString(16)).join(":");
}

function bitAt(bytes: readonly number[], bit: number): number {
  return (bytes[bit >> 3]! >> (7 - (bit & 7))) & 1;
}
