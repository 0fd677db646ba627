import { type Parser, Refused } from "./parse.ts";

/** Origins of web pages as browsers send them, `https://app.example.com`, separated by commas; or `*` by itself. */
export const webOrigins: Parser<readonly string[]> = (text) => {
  const origins = text.split(",").map((origin) => origin.trim());
  if (origins.length === 1 && origins[0] === "*") return origins;
  for (const origin of origins) {
    if (/^https?:/.test(origin) && URL.parse(origin)?.origin === origin) continue;
    const example =
      "such as https://app.example.com,http://localhost:5173: scheme, host and port, no path and no slash at the end";
    throw new Refused(`must be * alone or origins separated by commas, ${example}; ${JSON.stringify(origin)} is none`);
  }
  return origins;
};
