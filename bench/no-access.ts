/**
 * Loaded into a server before it starts: whoever the first request came from is who all come from. What is left out is what
 * asking for a credential costs; the yardstick of `access`, and no setting of any server.
 */
import { type Access, Gate } from "@tallystick/server/http/access";

const { check } = Gate.prototype;
let first: Promise<Access> | undefined;
Gate.prototype.check = function (request, scope) {
  first ??= check.call(this, request, scope);
  return first;
};
