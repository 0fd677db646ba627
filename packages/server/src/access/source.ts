/**
 * Where a request comes from, as limits and refusals are counted: one host, or one network that is handed out to one host.
 */
import { normalizeIp } from "@tallystick/core/ip";

/** A network address and how many of its bits count: 32 of an IPv4 address, 64 of an IPv6 one. */
export interface Source {
  /** As `normalizeIp` writes it. */
  readonly address: string;
  readonly prefixLength: 32 | 64;
}

const IPV6_GROUPS = 8;

/** An address as `normalizeIp` writes it; undefined for what is none, such as that of a Unix socket. */
export function addressOf(ip: string | undefined): string | undefined {
  // A zone is the server's own name of one of its interfaces.
  return ip === undefined ? undefined : normalizeIp(ip.replace(/%.*$/, ""));
}

/** The source of an address; undefined for what is none. */
export function sourceOf(ip: string | undefined): Source | undefined {
  const address = addressOf(ip);
  if (address === undefined) return undefined;
  if (!address.includes(":")) return { address, prefixLength: 32 };
  // One host has a whole /64, and can send each request from another address of it.
  const network = normalizeIp(`${groupsOf(address).slice(0, 4).join(":")}::`);
  return network === undefined ? undefined : { address: network, prefixLength: 64 };
}

/** One text for all addresses of a source; the address itself where it is none. */
export function sourceName(ip: string): string {
  return sourceOf(ip)?.address ?? ip;
}

function groupsOf(address: string): string[] {
  const [left = "", right] = address.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":"));
  if (right === undefined) return groups(left);
  const [before, after] = [groups(left), groups(right)];
  return [...before, ...new Array<string>(IPV6_GROUPS - before.length - after.length).fill("0"), ...after];
}
