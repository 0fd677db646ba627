/**
 * The proxies whose word is taken for who connects to them.
 */
import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";

export interface Network {
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
  readonly prefix: number;
}

/** `10.0.0.7`, `10.0.0.0/8`, `::1`, `fd00::/8`; undefined for anything else. */
export function parseNetwork(text: string): Network | undefined {
  const [, address = "", digits] = /^([0-9a-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? [];
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : 0;
  const prefix = digits === undefined ? bits : Number(digits);
  if (bits === 0 || prefix > bits) return undefined;
  return { address, family: bits === 32 ? "ipv4" : "ipv6", prefix };
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
