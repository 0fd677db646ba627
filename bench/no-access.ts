/**
 * Loaded into a server before it starts: whoever the first request came from is who all come from. What is left out is what
 * asking for a credential costs; the yardstick of `access`, and no setting of any server.
 */
import { type Access, Gate } from "@tallystick/server/http/access";

const { admit } = Gate.prototype;
let first: Access | Promise<Access> | undefined;
Gate.prototype.admit = function (request, reply, scope) {
  first ??= admit.call(this, request, reply, scope);
  return first;
};
