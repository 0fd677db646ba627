/**
 * Until when the server's own certificate is good: told before it ends, and once it has.
 */
import { X509Certificate } from "node:crypto";
import type { Check } from "./routes/health.ts";

const DAY_MS = 86_400_000;
const SOON_MS = 14 * DAY_MS;

interface Logger {
  warn(message: string): void;
  error(message: string): void;
}

type State = "good" | "early" | "ending" | "expired";

export class CertificateExpiry {
  readonly #logger: Logger;
  readonly #now: () => number;
  #certificate: { readonly from: Date; readonly to: Date };
  #told: { readonly state: State; readonly at: number } | undefined;

  /** @param cert PEM; the first certificate counts. @param now ms since the Unix epoch. */
  constructor(cert: Buffer, logger: Logger, now: () => number) {
    this.#logger = logger;
    this.#now = now;
    this.#certificate = validityOf(cert);
  }

  /** From now on it is another one. */
  renew(cert: Buffer): void {
    this.#certificate = validityOf(cert);
    this.#told = undefined;
  }

  /** Tells the log what is not right: at once when it has changed, else once a day. However often it is asked. */
  tell(): void {
    const now = this.#now();
    const state = this.#state();
    if (this.#told?.state === state && now - this.#told.at < DAY_MS) return;
    this.#told = { state, at: now };
    const words = this.#words(state);
    if (state === "expired") this.#logger.error(words);
    else if (state !== "good") this.#logger.warn(words);
  }

  /**
   * For readiness. Never failed: clients that do not look at the date, such as a proxy in front, go on, and all servers would be taken
   * away from them at one moment.
   */
  check(): Check {
    const state = this.#state();
    return state === "good" ? { status: "ok" } : { status: "warning", detail: this.#words(state) };
  }

  #state(): State {
    const now = this.#now();
    const { from, to } = this.#certificate;
    if (now > to.getTime()) return "expired";
    if (now < from.getTime()) return "early";
    return to.getTime() - now <= SOON_MS ? "ending" : "good";
  }

  #words(state: State): string {
    const { from, to } = this.#certificate;
    const renewal = "put a renewed one in its place, which is used within seconds (docs/runbook.md)";
    switch (state) {
      case "expired":
        return `the certificate in TLS_CERT_PATH has expired, on ${to.toISOString()}: clients refuse to connect; ${renewal}`;
      case "early":
        return `the certificate in TLS_CERT_PATH is not good before ${from.toISOString()}: set this machine's clock, or use another`;
      case "ending":
        return `the certificate in TLS_CERT_PATH is good until ${to.toISOString()}: ${renewal}`;
      case "good":
        return "";
    }
  }
}

function validityOf(cert: Buffer): { from: Date; to: Date } {
  const { validFromDate, validToDate } = new X509Certificate(cert);
  return { from: validFromDate, to: validToDate };
}
