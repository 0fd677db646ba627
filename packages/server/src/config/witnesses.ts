import { identity } from "@tallystick/core/note";
import { type CosignerKey, parseCosignerKey } from "@tallystick/core/verifier-key";
import { type Parser, Refused } from "./parse.ts";

/** Where a witness is asked, and the key that its cosignatures verify by. */
export interface WitnessSetting {
  /** Submission prefix (C2SP tlog-witness), without a slash at the end. */
  readonly url: string;
  readonly key: CosignerKey;
}

/** As many as C2SP asks every reader of a checkpoint to take. */
const MAX_WITNESSES = 16;

/** `<url> <verifier key>`, several separated by commas. */
export const witnesses: Parser<readonly WitnessSetting[]> = (text) => {
  const found = text
    .split(",")
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "")
    .map(witness);
  if (found.length > MAX_WITNESSES) throw new Refused(`names ${found.length} witnesses: at most ${MAX_WITNESSES}`);
  for (const [i, { url, key }] of found.entries()) {
    const before = found.slice(0, i);
    if (before.some((other) => other.url === url)) throw new Refused(`names ${url} twice: remove one`);
    // Its cosignatures do not name it: under two names it would count as two witnesses, and is one.
    const twin = before.find((other) => Buffer.from(other.key.publicKey).equals(key.publicKey));
    if (twin !== undefined) throw new Refused(`gives ${identity(key)} and ${identity(twin.key)} one key: remove one`);
  }
  return found;
};

function witness(pair: string): WitnessSetting {
  const [address, vkey, ...rest] = pair.split(/\s+/);
  if (address === undefined || vkey === undefined || rest.length > 0) {
    throw new Refused(
      `must be "<url> <verifier key>", several separated by commas, as "tallystick witness" prints it; ${JSON.stringify(pair)} is not`,
    );
  }
  const url = URL.parse(address);
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new Refused(`must have a URL such as https://witness.example.org before each key; ${address} is none`);
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new Refused(`must have URLs without user, ? and #; ${url.origin}${url.pathname} has one of them`);
  }
  try {
    return { url: url.href.replace(/\/+$/, ""), key: parseCosignerKey(vkey) };
  } catch (error) {
    throw new Refused(`has no witness's verifier key behind ${address} (${(error as Error).message})`);
  }
}
