/**
 * Query strings, in the manner of the audit logs of code hosts (docs/searching.md):
 *
 *     query  = *( term / SP )
 *     term   = ["-"] ( field ":" value *( "," value ) / word )
 *     value  = *( bare / quoted )          ; * in what is bare stands for any text
 *     word   = bare ["*"] / quoted ["*"]   ; words of the text; with * the last one may go on
 *     quoted = DQUOTE *( any but DQUOTE and "\" / "\" any ) DQUOTE
 *
 * All terms must hold. Of a field that is named twice, as of several values, any may hold; each that is negated must not.
 */
import type { Clause, Filter, TextField, TimeRange, Wanted } from "./filter.ts";
import { parseTimeRange, TIME_FORM } from "./filter-times.ts";
import { FIELD_VALUES } from "./filter-values.ts";
import { parseIpRange } from "./ip-range.ts";
import { wordsOf } from "./words.ts";

/** Fields by the names that they have in a query. */
const TEXT_FIELDS: ReadonlyMap<string, TextField> = new Map([
  ["actor", "actor"],
  ["actor_id", "actor_id"],
  ["actor_name", "actor_name"],
  ["actor_email", "actor_email"],
  ["actor_type", "actor_type"],
  ["on_behalf_of", "on_behalf_of"],
  ["on_behalf_of_id", "on_behalf_of_id"],
  ["action", "action"],
  ["resource_type", "resource_type"],
  ["resource_id", "resource_id"],
  ["resource_name", "resource_name"],
  ["outcome", "outcome"],
  ["severity", "severity"],
  ["operation", "operation"],
  ["event_type", "event_type"],
  ["service", "service_id"],
  ["service_id", "service_id"],
  ["request", "request_id"],
  ["request_id", "request_id"],
  ["session", "session_id"],
  ["session_id", "session_id"],
  ["trace", "trace_id"],
  ["trace_id", "trace_id"],
]);

/** The names of fields in a query; `metadata.` and `changes.` go on with a path. */
const QUERY_FIELDS: readonly string[] = [
  ...TEXT_FIELDS.keys(),
  ...["resource", "ip", "created", "occurred", "metadata.<path>", "changes.<path>"],
];

/** Characters of a query, and terms in it: what one request may cost. */
const MAX_LENGTH = 4_096;
const MAX_TERMS = 50;
const MAX_VALUES = 100;
/** Keys of a path: events are no deeper. */
const MAX_KEYS = 32;

/** Text with the places of its unquoted wildcards. */
interface Read {
  readonly text: string;
  /** Where in the query it begins. */
  readonly at: number;
  /** Its parts between wildcards; one where there is none. */
  readonly parts: readonly string[];
}

/** Thrown inside, and told of by its place in the query. */
class QueryError extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/**
 * Reads a query. What is not understood is told to `refuse`, with the place (characters from 1) and what was expected there; what is
 * returned then is not to be used.
 */
export function parseQuery(query: string, refuse: (message: string) => void): Filter {
  if (query.length > MAX_LENGTH) {
    refuse(`must have at most ${MAX_LENGTH} characters, not ${query.length}`);
    return { clauses: [] };
  }
  const clauses: Clause[] = [];
  const cursor = new Cursor(query);
  try {
    for (cursor.skipSpaces(); !cursor.ended; cursor.skipSpaces()) {
      if (clauses.length >= MAX_TERMS)
        throw new QueryError(cursor.at, `expected the end: a query has at most ${MAX_TERMS} terms`);
      add(clauses, readTerm(cursor));
    }
    return bounded(clauses);
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    refuse(`character ${error.at + 1}: ${error.message}`);
    return { clauses: [] };
  }
}

/** Adds a term: where its field is named already, its values beside those. Times are bounds: all of them hold. */
function add(clauses: Clause[], clause: Clause): void {
  const joins = !clause.negated && !["text", "recorded_at", "occurred_at"].includes(clause.field);
  const same = joins ? clauses.findIndex((one) => !one.negated && keyOf(one) === keyOf(clause)) : -1;
  if (same < 0) clauses.push(clause);
  else clauses[same] = { ...clauses[same]!, anyOf: [...clauses[same]!.anyOf, ...clause.anyOf] } as Clause;
}

function keyOf(clause: Clause): string {
  return JSON.stringify([clause.field, "path" in clause ? clause.path : []]);
}

/** Takes times that must hold for the bounds of the search. */
function bounded(clauses: readonly Clause[]): Filter {
  const isBound = (one: Clause) => isTime(one) && !one.negated && one.anyOf.length === 1;
  const boundsOf = (field: "recorded_at" | "occurred_at"): TimeRange => {
    const ranges = clauses.filter((one) => one.field === field && isBound(one)).map((one) => one.anyOf[0] as TimeRange);
    const [froms, tos] = [ranges.map(({ from }) => from), ranges.map(({ to }) => to)];
    return {
      from: froms
        .filter((from) => from !== undefined)
        .sort()
        .at(-1),
      to: tos.filter((to) => to !== undefined).sort()[0],
    };
  };
  const occurred = boundsOf("occurred_at");
  return {
    clauses: clauses.filter((one) => !isBound(one)),
    ...boundsOf("recorded_at"),
    occurredFrom: occurred.from,
    occurredTo: occurred.to,
  };
}

function isTime({ field }: Clause): boolean {
  return field === "recorded_at" || field === "occurred_at";
}

function readTerm(cursor: Cursor): Clause {
  const negated = cursor.take("-");
  if (cursor.ended || cursor.atSpace) throw new QueryError(cursor.at, "expected a field or a word behind -");
  const start = cursor.at;
  const name = cursor.takeName();
  if (name === undefined) return { field: "text", negated, anyOf: [wordsIn(cursor.takeValue(false))] };
  const { field, path } = fieldOf(name, cursor, start);
  const values: Read[] = [];
  do {
    if (cursor.ended || cursor.atSpace || cursor.sees(",")) {
      throw new QueryError(cursor.at, `expected a value of ${name}; an empty one is written ""`);
    }
    if (values.length >= MAX_VALUES)
      throw new QueryError(cursor.at, `expected a space: a field has at most ${MAX_VALUES} values`);
    values.push(cursor.takeValue(true));
  } while (cursor.take(","));
  return clauseOf({ field, path, name, negated, values });
}

function fieldOf(name: string, cursor: Cursor, at: number): { field: Clause["field"]; path: readonly string[] } {
  if (name === "metadata" || name === "changes") {
    const path = cursor.takePath();
    if (path.length === 0) throw new QueryError(at, `expected a path behind ${name}, as in ${name}.plan:gold`);
    return { field: name, path };
  }
  const field =
    TEXT_FIELDS.get(name) ??
    (name === "resource" || name === "ip"
      ? name
      : name === "created"
        ? "recorded_at"
        : name === "occurred"
          ? "occurred_at"
          : undefined);
  if (field === undefined) {
    throw new QueryError(
      at,
      `"${name.slice(0, 50)}" is no field; expected one of ${QUERY_FIELDS.join(", ")}, or quotes around what is to be searched for as text`,
    );
  }
  cursor.take(":");
  return { field, path: [] };
}

function clauseOf({
  field,
  path,
  name,
  negated,
  values,
}: {
  field: Clause["field"];
  path: readonly string[];
  name: string;
  negated: boolean;
  values: readonly Read[];
}): Clause {
  switch (field) {
    case "resource":
      return { field, negated, anyOf: values.map(resourceOf) };
    case "ip":
      return {
        field,
        negated,
        anyOf: values.map((read) =>
          parsed(
            read,
            parseIpRange,
            "an IPv4 or IPv6 address, or a range such as 10.0.0.0/8 with no bits set behind its prefix",
          ),
        ),
      };
    case "recorded_at":
    case "occurred_at":
      return { field, negated, anyOf: values.map((read) => timesOf(read)) };
    case "metadata":
    case "changes":
      return { field, path, negated, anyOf: values.map(wantedOf) };
    case "text":
      throw new Error("a word has no field");
    default: {
      const allowed = FIELD_VALUES[field];
      if (allowed === undefined) return { field, negated, anyOf: values.map(wantedOf) };
      const anyOf = values.map((read): Wanted => {
        const value = allowed.find((one) => one.toLowerCase() === read.text.toLowerCase());
        if (value === undefined)
          throw new QueryError(read.at, `expected a value of ${name}: one of ${allowed.join(", ")}`);
        return { kind: "exact", value };
      });
      return { field, negated, anyOf };
    }
  }
}

function wantedOf({ parts, at }: Read): Wanted {
  if (parts.length === 1) return { kind: "exact", value: parts[0]! };
  if (parts.every((part) => part === "")) throw new QueryError(at, "expected some text beside *");
  return { kind: "pattern", parts: parts.filter((part, i) => part !== "" || i === 0 || i === parts.length - 1) };
}

/** `type`, or `type:id`. */
function resourceOf(read: Read): { type: Wanted; id?: Wanted } {
  const colon = read.parts[0]!.indexOf(":");
  if (colon < 0) {
    if (read.text.includes(":")) throw new QueryError(read.at, "expected a type without * before the colon");
    return { type: wantedOf(read) };
  }
  const [first, ...others] = read.parts;
  const id = { ...read, at: read.at + colon + 1, parts: [first!.slice(colon + 1), ...others] };
  if (id.parts.every((part) => part === "") && id.parts.length === 1)
    throw new QueryError(id.at, "expected an id behind the colon");
  return { type: { kind: "exact", value: first!.slice(0, colon) }, id: wantedOf(id) };
}

function timesOf(read: Read): TimeRange {
  const range = parsed(
    read,
    parseTimeRange,
    `${TIME_FORM}; or a range of them, as in 2026-01-01..2026-01-31 or >=2026-01-01`,
  );
  if (range.from !== undefined && range.to !== undefined && range.from >= range.to) {
    throw new QueryError(read.at, "expected a range that ends behind its beginning");
  }
  return range;
}

function parsed<T>(read: Read, parse: (text: string) => T | undefined, expected: string): T {
  const value = parse(read.text);
  if (value === undefined) throw new QueryError(read.at, `expected ${expected}, not "${read.text.slice(0, 100)}"`);
  return value;
}

function wordsIn({ parts, at, text }: Read): { words: readonly string[]; prefix: boolean } {
  const prefix = parts.length > 1;
  if (parts.length > 2 || (prefix && parts[1] !== "")) {
    throw new QueryError(
      at,
      "expected a word that has * at its end only: text is searched for from the beginning of a word",
    );
  }
  const words = wordsOf(parts[0]!);
  if (words.length === 0)
    throw new QueryError(at, `expected a letter or a digit to search for, not ${text.slice(0, 50)}`);
  return { words, prefix };
}

/** Reads a query from its beginning to its end. */
class Cursor {
  readonly #query: string;
  #at = 0;

  constructor(query: string) {
    this.#query = query;
  }

  get at(): number {
    return this.#at;
  }

  get ended(): boolean {
    return this.#at >= this.#query.length;
  }

  get atSpace(): boolean {
    return /\s/.test(this.#query[this.#at] ?? "");
  }

  sees(character: string): boolean {
    return this.#query[this.#at] === character;
  }

  take(character: string): boolean {
    if (!this.sees(character)) return false;
    this.#at++;
    return true;
  }

  skipSpaces(): void {
    while (this.atSpace) this.#at++;
  }

  /** The name before a colon, or before a path; undefined where there is a word. */
  takeName(): string | undefined {
    const rest = this.#query.slice(this.#at);
    const found = /^(metadata|changes)(?=[.:])|^[^\s":,*]+(?=:)/.exec(rest)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** `.key` any number of times, and the colon. */
  takePath(): string[] {
    const path: string[] = [];
    while (this.take(".")) {
      if (path.length >= MAX_KEYS)
        throw new QueryError(this.#at, `expected a colon: a path has at most ${MAX_KEYS} keys`);
      const start = this.#at;
      if (this.sees('"')) path.push(this.#takeQuoted());
      else {
        while (!this.ended && !/[\s.:"]/.test(this.#query[this.#at]!)) this.#at++;
        if (this.#at === start) throw new QueryError(start, "expected a key behind the dot");
        path.push(this.#query.slice(start, this.#at));
      }
    }
    if (path.length > 0 && !this.take(":"))
      throw new QueryError(this.#at, "expected a colon and a value behind the path");
    return path;
  }

  /** Up to a space; with `list` up to a comma as well. */
  takeValue(list: boolean): Read {
    const at = this.#at;
    const parts: string[] = [];
    let part = "";
    while (!this.ended && !this.atSpace && !(list && this.sees(","))) {
      if (this.sees('"')) part += this.#takeQuoted();
      else if (this.take("*")) {
        parts.push(part);
        part = "";
      } else part += this.#query[this.#at++];
    }
    parts.push(part);
    return { text: parts.join("*"), at, parts };
  }

  #takeQuoted(): string {
    const start = this.#at++;
    let text = "";
    while (!this.sees('"')) {
      if (this.take("\\") && this.ended) break;
      if (this.ended) throw new QueryError(start, 'expected a closing " to this opening one');
      text += this.#query[this.#at++];
    }
    if (!this.take('"')) throw new QueryError(start, 'expected a closing " to this opening one');
    return text;
  }
}
