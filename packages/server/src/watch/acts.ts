/**
 * The entries that tell of exports, verifications and reads.
 */
import type { JsonObject } from "@tallystick/core/json";
import { type By, byWhom } from "../access/by.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { SystemEvent } from "../log/system.ts";
import { withoutSecrets } from "../redaction.ts";
import type { VerifyReport } from "../verify/report.ts";

/** Parameters of a search, as the client sent them. */
export type Asked = Readonly<Record<string, string | readonly string[] | undefined>>;

/** What is to be exported. */
export interface Export {
  readonly format: string;
  readonly asked: Asked;
  /** Positions, `to` exclusive. */
  readonly from: number;
  readonly to: number;
  /** Of the checkpoint that proves it; null where none does. */
  readonly treeSize: number | null;
}

export function exportedEvent(
  log: LogIdentity,
  by: By,
  { format, asked, from, to, treeSize }: Export,
  secrets: readonly string[],
): SystemEvent {
  return {
    action: "tallystick.log.exported",
    ...byWhom(by),
    resource: { type: "log", id: log.name },
    outcome: "success",
    operation: "VIEW",
    metadata: {
      format,
      filter: keptFilter(asked, secrets),
      from,
      to,
      ...(treeSize !== null && { tree_size: treeSize }),
    },
  };
}

export function verifiedEvent(
  log: LogIdentity,
  by: By,
  { ok, size, root, checked, problems }: VerifyReport,
  serviceId: string | undefined,
): SystemEvent {
  const kinds = [...new Set(problems.map(({ kind }) => kind))].sort();
  return {
    action: "tallystick.log.verified",
    ...byWhom(by),
    resource: { type: "log", id: log.name },
    outcome: ok ? "success" : "failure",
    severity: ok ? "INFO" : "CRITICAL",
    operation: "VIEW",
    metadata: {
      ok,
      size,
      root,
      checked,
      ...(serviceId !== undefined && { service_id: withoutSecrets(serviceId) }),
      ...(!ok && { problems: problems.length, kinds }),
    },
  };
}

/** Parameters whose value may be personal: an entry is never deleted, so it says that they were given and not what they were. */
const PERSONAL: ReadonlySet<string> = new Set(["ip", "q", "search_text"]);

/**
 * What an entry keeps of the parameters of a search, in the order of their names: no value that looks like a credential.
 *
 * @param secrets those that may look like anything, as the settings give them.
 */
export function keptFilter(asked: Asked, secrets: readonly string[]): JsonObject {
  const given = Object.entries(asked).filter((entry): entry is [string, string | string[]] => entry[1] !== undefined);
  const kept = (value: string) => withoutSecrets(value, secrets);
  // One value is a text, whether or not the parameter may be given several times.
  const keptAll = (values: readonly string[]) => (values.length === 1 ? kept(values[0]!) : values.map(kept));
  return Object.fromEntries(
    given
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => [
        name,
        PERSONAL.has(name) ? "(not kept)" : typeof value === "string" ? kept(value) : keptAll(value),
      ]),
  );
}
