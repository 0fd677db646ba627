/**
 * Schemas at the edge: nothing is removed, coerced or filled in, and every error names its field.
 */
import type { JsonValue } from "@tallystick/core/json";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import formats from "ajv-formats";
import { type FieldError, Problem } from "./problem.ts";

const ajv = new Ajv({ allErrors: true, strict: false, allowUnionTypes: true });
formats.default(ajv);
const compiled = new WeakMap<object, ValidateFunction>();

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
  const validate = compile(schema);
  return (data) => (validate(data) ? true : { error: refusal(validate.errors ?? [], false) });
}

/**
 * A parsed body as `T`, which is what `schema` says.
 * @throws {Problem} 400 that names each field.
 */
export function parseWith<T>(schema: object, body: JsonValue): T {
  const validate = compile(schema);
  if (!validate(body)) throw refusal(validate.errors ?? [], true);
  return body as T;
}

function compile(schema: object): ValidateFunction {
  let validate = compiled.get(schema);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    compiled.set(schema, validate);
  }
  return validate;
}

/** `pointers`: paths of a body are JSON pointers, those of parameters are names. */
function refusal(problems: readonly ErrorObject[], pointers: boolean): Problem {
  const errors = problems.map((problem): FieldError => {
    const { instancePath, keyword, params, message } = problem;
    const key: unknown = params.additionalProperty ?? params.missingProperty;
    const path = key === undefined ? instancePath : `${instancePath}/${key}`;
    return { path: pointers ? path : path.slice(1), message: wordsFor(keyword, params, message) };
  });
  return refused(errors);
}

function refused(errors: readonly FieldError[]): Problem {
  return new Problem(400, "invalid-request", "The request was refused: mend what errors names and send it again.", {
    errors,
  });
}

function wordsFor(keyword: string, params: ErrorObject["params"], message: string | undefined): string {
  if (keyword === "additionalProperties") return "is not known here: check its spelling, or leave it out";
  if (keyword === "required") return "is required";
  if (keyword === "enum") return `must be one of ${params.allowedValues.join(", ")}`;
  return message ?? "is not right";
}
