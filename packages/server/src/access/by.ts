/**
 * By whom something was done, as entries tell of it.
 */
import type { Actor, EventContext, RelatedResource } from "@tallystick/core/event";
import type { Caller } from "./caller.ts";
import { addressOf } from "./source.ts";

/** Who asked, with which credential, from where. */
export interface By {
  readonly actor: Actor;
  readonly credential?: Caller["credential"] | undefined;
  /** The client's address. */
  readonly ip?: string | undefined;
  readonly requestId?: string | undefined;
}

/** The members of an event that say so. The credential is a related resource: searching for it finds all that was done with it. */
export function byWhom({ actor, credential, ip, requestId }: By) {
  const address = addressOf(ip);
  const context: EventContext = {
    ...(address !== undefined && { ip: address }),
    ...(requestId !== undefined && { request_id: requestId }),
  };
  return {
    actor,
    ...(credential !== undefined && { related: [credentialResource(credential)] }),
    ...(Object.keys(context).length > 0 && { context }),
  };
}

export function credentialResource({ kind, id }: Caller["credential"]): RelatedResource {
  return { type: kind, id, role: "credential" };
}
