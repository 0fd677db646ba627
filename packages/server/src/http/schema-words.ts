/**
 * What a schema asks for, in words: an error says what would be right, to somebody who does not see the schema.
 */
import type { ErrorObject } from "ajv";

/** By the pattern itself, as the schemas have it. */
const PATTERNS: Readonly<Record<string, string>> = {
  "^[a-z0-9-]{1,63}$": "must be 1 to 63 characters of a-z, 0-9 and -",
  "^[0-9a-f]{64}$": "must be 64 hex digits, in lower case",
  "^[0-9]+$": "must be a whole number",
  "^(0|[1-9][0-9]{0,15})$": "must be a whole number, 0 or more",
  "^(0|[1-9][0-9]{0,14})$": "must be a whole number, 0 or more",
  "^([1-9]|1[0-6])$": "must be a whole number from 1 to 16",
};

const FORMATS: Readonly<Record<string, string>> = {
  uuid: "must be a UUID, such as 0190d7a2-6c1e-7c44-8d39-0d6f4a4f9f33",
};

/** What is wrong with a field, to be read after its name. */
export function wordsFor({ keyword, params, message, parentSchema }: ErrorObject): string {
  switch (keyword) {
    case "additionalProperties":
      return "is not known here: check its spelling, or leave it out";
    case "required":
      return "is required";
    case "enum":
      return `must be one of ${params.allowedValues.join(", ")}`;
    case "pattern":
      return PATTERNS[params.pattern] ?? message ?? "is not right";
    case "format":
      return FORMATS[params.format] ?? message ?? "is not right";
    case "minProperties":
      return `is empty: say at least one of ${Object.keys(parentSchema?.properties ?? {}).join(", ")}`;
    case "minLength":
      return params.limit === 1 ? "must not be empty" : `must have ${params.limit} characters or more`;
    case "maxLength":
      return `must have ${params.limit} characters or fewer`;
    default:
      return message ?? "is not right";
  }
}
