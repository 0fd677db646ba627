/**
 * Logs whose head is not what was signed: nothing is signed of them, and nothing recorded, until they are right again or have a
 * successor.
 */
import { toHex } from "@tallystick/core/hex";
import { AppendError } from "../log/errors.ts";
import type { LogIdentity } from "../log/identity.ts";
import type { SignedHead } from "./sign-lock.ts";

/** Why a log's head is not signed, and nothing is put on top of it. */
export interface Refusal {
  readonly logId: number;
  /** Its name. */
  readonly log: string;
  readonly signed: SignedHead;
  /** What the database has: at the signed size, or its newest where that is smaller. */
  readonly found: SignedHead | undefined;
  /** One sentence, and what to do. */
  readonly detail: string;
}

export class Refusals {
  readonly #refusals = new Map<number, Refusal>();
  /** Those that no look at the log itself can end. */
  readonly #final = new Set<number>();
  readonly #onRefusal: (refusal: Refusal) => void;

  /** @param onRefusal told of a log once, however often it is refused. */
  constructor(onRefusal: (refusal: Refusal) => void) {
    this.#onRefusal = onRefusal;
  }

  list(): readonly Refusal[] {
    return [...this.#refusals.values()];
  }

  of(logId: number): Refusal | undefined {
    return this.#refusals.get(logId);
  }

  isFinal(logId: number): boolean {
    return this.#final.has(logId);
  }

  /** @throws {AppendError} `unsignable` where the log is refused. */
  check(logId: number): void {
    const refusal = this.#refusals.get(logId);
    if (refusal !== undefined) throw new AppendError("unsignable", refusal.detail);
  }

  /** Ends a refusal; true where there was one. */
  end(logId: number): boolean {
    this.#final.delete(logId);
    return this.#refusals.delete(logId);
  }

  /**
   * Refuses a log.
   * @param because what is wrong, where sizes and roots do not say it. @param final only a successor ends it.
   * @returns what to throw.
   */
  refuse(
    log: Omit<LogIdentity, "tenantId">,
    signed: SignedHead,
    found: SignedHead | undefined,
    because?: string,
    final = false,
  ): AppendError {
    const reason =
      because ??
      (found === undefined
        ? `the database has no head of size ${signed.size}`
        : found.size < signed.size
          ? `the database has only ${found.size} entries`
          : found.size > signed.size
            ? "the database has no head of that size, and a newer one"
            : "the database has another root at that size");
    const detail =
      `${log.name} was signed at size ${signed.size} with root ${toHex(signed.root)}, and ${reason}` +
      `${found === undefined ? "" : ` (${found.size}, ${toHex(found.root)})`}: a backup was restored, or entries were cut off or changed. ` +
      'Nothing is signed and nothing recorded in this log. Put the right database back, or open a successor with "tallystick log succeed --reason ..."; see docs/runbook.md';
    const refusal = { logId: log.logId, log: log.name, signed, found, detail };
    if (!this.#refusals.has(log.logId)) this.#onRefusal(refusal);
    this.#refusals.set(log.logId, refusal);
    if (final) this.#final.add(log.logId);
    return new AppendError("unsignable", detail);
  }
}
