/**
 * The operator's token.
 */
import { hash, timingSafeEqual } from "node:crypto";
import type { Actor } from "@tallystick/core/event";
import { type Caller, CredentialError } from "./caller.ts";
import { SCOPES } from "./scopes.ts";

/** Whoever holds the admin token. */
export const OPERATOR: Actor = { type: "user", id: "operator" };

const CALLER: Caller = {
  credential: { kind: "admin_token", id: "admin_token" },
  tenantId: undefined,
  serviceId: undefined,
  scopes: SCOPES,
  actor: OPERATOR,
};

export class AdminToken {
  readonly #hash: Buffer;

  constructor(token: string) {
    this.#hash = hash("sha256", token, "buffer");
  }

  /**
   * The operator.
   * @param onStranger called before a wrong token is refused; what it throws refuses it.
   * @throws {CredentialError} `admin_token_wrong`.
   */
  authenticate(token: string, onStranger?: () => void): Caller {
    // Hashes of equal length: the comparison tells nothing by its time.
    if (timingSafeEqual(hash("sha256", token, "buffer"), this.#hash)) return CALLER;
    onStranger?.();
    throw new CredentialError("admin_token_wrong", "The admin token is not this installation's.");
  }
}
