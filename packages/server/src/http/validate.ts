/**
 * Schemas at the edge: nothing is removed, coerced or filled in, and every error names its field.
 */
import type { JsonValue } from "@tallystick/core/json";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import formats from "ajv-formats";
import { type FieldError, Problem } from "./problem.ts";
import { wordsFor } from "./schema-words.ts";

/** Of a value with more parts than these only the first error is looked for: each costs time, memory and room in the answer. */
const MAX_PARTS = 1_000;

const first = checkerWith({ allErrors: false });
const all = checkerWith({ allErrors: true });

/**
 * Refuses U+0000, which PostgreSQL's text cannot hold, in every parameter of path and query.
 * @throws {Problem} 400 that names each.
 */
export function refuseNul(...parts: readonly unknown[]): void {
  const named = parts.flatMap((part) => Object.entries((part ?? {}) as Readonly<Record<string, unknown>>));
  const errors = named
    .filter((nameAndValue) => nameAndValue.flat().some((text) => typeof text === "string" && text.includes("\0")))
    .map(([path]): FieldError => ({ path, message: "contains U+0000, which no text here may" }));
  if (errors.length > 0) throw refused(errors);
}

/** What Fastify checks a part of a request with. Bodies are bytes here; routes parse them and use {@link parseWith}. */
export function validatorFor({
  schema,
  httpPart,
}: {
  schema: object;
  httpPart?: string | undefined;
}): (data: unknown) => boolean | { error: Problem } {
  if (httpPart === "body") return () => true;
  const lists = Object.entries((schema as { properties?: Record<string, { type?: unknown }> }).properties ?? {})
    .filter(([, { type }]) => type === "array")
    .map(([name]) => name);
  return (data) => {
    // A parameter that may be given several times is a list, also where it is given once.
    const given = data as Record<string, unknown>;
    for (const name of lists) if (typeof given[name] === "string") given[name] = [given[name]];
    const problems = problemsOf(schema, data);
    return problems.length === 0 ? true : { error: refusal(problems, false) };
  };
}

/**
 * A parsed body as `T`, which is what `schema` says.
 * @throws {Problem} 400 that names each field.
 */
export function parseWith<T>(schema: object, body: JsonValue): T {
  const problems = problemsOf(schema, body);
  if (problems.length > 0) throw refusal(problems, true);
  return body as T;
}

/** What is wrong with a value: everything in a small one, in a large one the first that is found. */
function problemsOf(schema: object, value: unknown): readonly ErrorObject[] {
  const problems = first(schema, value);
  return problems.length > 0 && partsOf(value, MAX_PARTS) < MAX_PARTS ? all(schema, value) : problems;
}

function checkerWith(options: { allErrors: boolean }): (schema: object, value: unknown) => readonly ErrorObject[] {
  const ajv = new Ajv({ ...options, strict: false, allowUnionTypes: true, verbose: true });
  formats.default(ajv);
  const compiled = new WeakMap<object, ValidateFunction>();
  return (schema, value) => {
    let validate = compiled.get(schema);
    if (validate === undefined) {
      validate = ajv.compile(schema);
      compiled.set(schema, validate);
    }
    return validate(value) ? [] : (validate.errors ?? []);
  };
}

/** How many values there are in a value, itself counted; no more than `enough` are looked at. */
function partsOf(value: unknown, enough: number): number {
  if (typeof value !== "object" || value === null) return 1;
  let parts = 1;
  for (const name in value) {
    parts += partsOf((value as Record<string, unknown>)[name], enough - parts);
    if (parts >= enough) return enough;
  }
  return parts;
}

/** `pointers`: paths of a body are JSON pointers, those of parameters are names. */
function refusal(problems: readonly ErrorObject[], pointers: boolean): Problem {
  const errors = problems.map((problem): FieldError => {
    const { instancePath, params } = problem;
    const key: unknown = params.additionalProperty ?? params.missingProperty;
    const path = key === undefined ? instancePath : `${instancePath}/${key}`;
    return { path: pointers ? path : path.slice(1).replace(/\/\d+$/, ""), message: wordsFor(problem) };
  });
  return refused(errors);
}

function refused(errors: readonly FieldError[]): Problem {
  return new Problem(400, "invalid-request", "The request was refused: mend what errors names and send it again.", {
    errors,
  });
}
