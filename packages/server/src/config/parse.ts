import { isIP } from "node:net";

/** A value that cannot be used. The message goes after "NAME " and says what is wanted, with an example. */
export class Refused extends Error {}

/** Turns the text of a setting into its value, or throws {@link Refused}. */
export type Parser<T> = (text: string) => T;

/** A whole number in decimal digits between `min` and `max`, both included. */
export function integer(min: number, max: number): Parser<number> {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    // Kubernetes sets DB_PORT=tcp://10.0.0.7:5432 for every Service called "db".
    const hint = text.startsWith("tcp://")
      ? "; Kubernetes sets it for a Service of that name: enableServiceLinks: false"
      : "";
    throw new Refused(`must be a whole number from ${min} to ${max}${hint}`);
  };
}

export const boolean: Parser<boolean> = (text) => {
  const value = { true: true, false: false }[text.toLowerCase()];
  if (value === undefined) throw new Refused("must be true or false");
  return value;
};

const SIZE_UNITS: Readonly<Record<string, number>> = { "": 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** A number of bytes, plain or with KiB, MiB or GiB. */
export function bytes(min: number, max: number): Parser<number> {
  return (text) => {
    const [, digits, unit = ""] = /^(\d+) ?(KiB|MiB|GiB)?$/.exec(text) ?? [];
    const value = Number(digits) * (SIZE_UNITS[unit] ?? Number.NaN);
    if (value >= min && value <= max) return value;
    throw new Refused(
      `must be a number of bytes from ${min} to ${max}, such as ${min} or ${Math.ceil(min / 1024 ** 2)}MiB`,
    );
  };
}

/** Levels as operators write them, to the names of the logging library. */
const LEVELS = {
  TRACE: "trace",
  DEBUG: "debug",
  INFO: "info",
  WARNING: "warn",
  WARN: "warn",
  ERROR: "error",
  CRITICAL: "fatal",
  FATAL: "fatal",
} as const;

export type LogLevel = (typeof LEVELS)[keyof typeof LEVELS];

export const logLevel: Parser<LogLevel> = (text) => {
  const level = Object.entries(LEVELS).find(([name]) => name === text.toUpperCase());
  if (level !== undefined) return level[1];
  throw new Refused(`must be one of ${Object.keys(LEVELS).join(", ")}`);
};

/** An address to listen on: an IP address or a host name. */
export const host: Parser<string> = (text) => {
  if (isIP(text) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text)) return text;
  throw new Refused("must be an address or a host name without port or scheme, such as 127.0.0.1, 0.0.0.0 or ::1");
};

/** Where PostgreSQL listens: as {@link host}, or the directory of its Unix socket. */
export const databaseHost: Parser<string> = (text) => (text.startsWith("/") ? text : host(text));

export const text: Parser<string> = (value) => value;

/** `postgres://user:password@host:port/database`, as node-postgres reads it. */
export const postgresUrl: Parser<string> = (value) => {
  // A URL without a host (a Unix socket in ?host=) is PostgreSQL's own form, which the URL standard refuses.
  const url = URL.parse(value.replace("@/", "@localhost/"));
  if (url === null || !["postgres:", "postgresql:"].includes(url.protocol)) {
    throw new Refused(
      "must look like postgres://user:password@host:5432/database; write the characters / ? # @ % of a password as %2F %3F %23 %40 %25",
    );
  }
  if (url.pathname.length < 2) throw new Refused("names no database: end it with /database");
  return value;
};

/** The name that stands in every leaf and checkpoint of the installation, C2SP style: a URL without its scheme. */
export const origin: Parser<string> = (value) => {
  if (value.includes("://")) throw new Refused("must be written without a scheme, such as audit.example.com");
  if (/^[a-z0-9]([a-z0-9._/-]{0,198}[a-z0-9])?$/.test(value) && !value.includes("//")) return value;
  throw new Refused(
    "must be a name such as audit.example.com or example.com/audit: up to 200 of a-z 0-9 . _ / -, beginning and ending with a letter or digit",
  );
};

/** A token sent in a header: visible ASCII, and too long to be guessed. */
export const credential: Parser<string> = (value) => {
  if (/^[\x21-\x7e]{16,256}$/.test(value)) return value;
  throw new Refused("must be 16 to 256 visible ASCII characters without spaces; make one with: openssl rand -hex 24");
};
