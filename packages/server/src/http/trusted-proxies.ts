/**
 * The proxies whose word is taken for who connects to them.
 */

import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";
import { normalizeIp } from "@tallystick/core/ip";

export interface Network {
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
  readonly prefix: number;
}

const MAPPED_BITS = 96;

/** `10.0.0.7`, `10.0.0.0/8`, `::1`, `fd00::/8`; undefined for anything else. Part of `::ffff:0:0/96` is the IPv4 network that it is. */
export function parseNetwork(text: string): Network | undefined {
  const [, address = "", digits] = /^([0-9a-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? [];
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : 0;
  const prefix = digits === undefined ? bits : Number(digits);
  if (bits === 0 || prefix > bits) return undefined;
  if (bits === 32) return { address, family: "ipv4", prefix };
  const plain = prefix >= MAPPED_BITS ? normalizeIp(address) : undefined;
  if (plain !== undefined && isIPv4(plain)) return { address: plain, family: "ipv4", prefix: prefix - MAPPED_BITS };
  return { address, family: "ipv6", prefix };
}

/** Of a network that its own operator can know every host of; wider ones are parts of the Internet. */
const LEAST_PREFIX = { ipv4: 8, ipv6: 16 } as const;

/** Why nobody can vouch for all of a network; undefined where one may. */
export function tooWide({ address, family, prefix }: Network): string | undefined {
  const network = new BlockList();
  network.addSubnet(address, prefix, family);
  // It holds all of them or none.
  if (family === "ipv6" && prefix < MAPPED_BITS && network.check("::ffff:192.0.2.1", "ipv6"))
    return "it holds every IPv4 address, as ::ffff:0:0/96";
  const least = family === "ipv6" && isPrivate(address, prefix) ? 0 : LEAST_PREFIX[family];
  return prefix < least ? `it is wider than /${least}` : undefined;
}

/** Unique local (`fc00::/7`) and link-local (`fe80::/10`) addresses: nobody comes from one out of the Internet. */
function isPrivate(address: string, prefix: number): boolean {
  const first = Number.parseInt(address.split(":")[0] || "0", 16);
  return (prefix >= 7 && (first & 0xfe00) === 0xfc00) || (prefix >= 10 && (first & 0xffc0) === 0xfe80);
}

export class TrustedProxies {
  readonly #networks = new BlockList();
  readonly #none: boolean;

  constructor(networks: readonly Network[]) {
    for (const { address, prefix, family } of networks) this.#networks.addSubnet(address, prefix, family);
    this.#none = networks.length === 0;
  }

  /** @param address as a socket says it: an IPv4 address may be written as IPv6. */
  readonly has = (address: string | undefined): boolean => {
    if (this.#none || address === undefined) return false;
    const family = isIP(address);
    return family !== 0 && this.#networks.check(address, family === 4 ? "ipv4" : "ipv6");
  };
}
