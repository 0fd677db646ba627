/**
 * What never reaches the server's own log: credentials, whichever way they got into a message, a stack or an error's facts.
 */
import type { LoggerOptions } from "pino";

const HIDDEN = "********";

/** Facts of errors that may hold what clients sent: PostgreSQL quotes the row that it refuses. */
const PATHS = [
  ...["*.authorization", '*["x-api-key"]', '*["x-admin-token"]', "*.cookie", "*.headers"],
  ...["err.detail", "err.where", "err.parameters", "err.cause.detail", "err.aggregateErrors[*].detail"],
];

/** By form, for those that nobody told us. Lines are JSON: a quote may be escaped, a line break is. */
const FORMS: readonly [RegExp, string][] = [
  [/-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|$)/gs, `[$1 ${HIDDEN}]`],
  [/\btally(admin)?_[A-Za-z0-9_-]{8,}/g, `tally$1_${HIDDEN}`],
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*/g, HIDDEN],
  [/\b(authorization(?:\\?["'])?\s*[:=]\s*(?:\\?["'])?\w+\s+)[^\s"\\]+/gi, `$1${HIDDEN}`],
  [/\b(bearer\s+)(?=[a-z._~+/-]*\d)[\w.~+/=-]{8,}/gi, `$1${HIDDEN}`],
  [/(:\/\/[^\s:@/"\\]*):[^\s@/"\\]+@/g, `$1:${HIDDEN}@`],
  [/([?&;](?:[a-z]+[_-])?(?:api[_-]?key|token|password|passwd|secret|authorization|jwt)=)[^&\s"\\]+/gi, `$1${HIDDEN}`],
];

/** Shorter ones would hide parts of words; settings are longer, but for a database's password. */
const LEAST_SECRET = 6;

/**
 * What a logger needs so that its lines hold no credential.
 *
 * @param secrets what is known to be one, such as the settings' own.
 */
export function redaction(secrets: readonly string[] = []): Pick<LoggerOptions, "redact" | "hooks"> {
  // As they stand in a line. The longest first: one may hold another.
  const known = [...new Set(secrets.filter((one) => one.length >= LEAST_SECRET))]
    .map((secret) => JSON.stringify(secret).slice(1, -1))
    .sort((a, b) => b.length - a.length);
  return {
    redact: { paths: [...PATHS], censor: HIDDEN },
    hooks: { streamWrite: (line) => withoutSecrets(line, known) },
  };
}

/** A text without what looks like a credential, and without the known ones. */
export function withoutSecrets(text: string, known: readonly string[] = []): string {
  let clean = text;
  for (const secret of known) clean = clean.replaceAll(secret, HIDDEN);
  for (const [form, replacement] of FORMS) clean = clean.replace(form, replacement);
  return clean;
}
