/**
 * The page that carries evidence and checks it, as one file: packages/cli/page, and all of core that it uses, made into
 * packages/cli/assets/evidence-page.html. Where the evidence goes, it has `{{evidence}}`.
 */
import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const PAGE = new URL("../packages/cli/page/", import.meta.url);

/** The page. The same sources and the same versions of what is in package-lock.json make the same bytes. */
export async function evidencePage(): Promise<string> {
  const [template, css, code] = await Promise.all([
    readFile(new URL("page.html", PAGE), "utf8"),
    readFile(new URL("page.css", PAGE), "utf8"),
    bundle(),
  ]);
  const style = css.replaceAll(/\s*\n\s*/g, " ").trim();
  // Nothing but these two runs or is fetched, whatever the evidence holds.
  const csp = [
    "default-src 'none'",
    `script-src 'sha256-${hash("sha256", code, "base64")}'`,
    `style-src 'sha256-${hash("sha256", style, "base64")}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  // By functions: replacement texts would give a meaning to "$&" and the like.
  return template
    .replace("{{csp}}", () => csp)
    .replace("{{style}}", () => style)
    .replace("{{script}}", () => code);
}

async function bundle(): Promise<string> {
  const made = await rolldown({
    input: fileURLToPath(new URL("main.ts", PAGE)),
    platform: "browser",
    resolve: { conditionNames: ["source", "browser", "import", "default"] },
    onLog: (_level, { message }) => {
      throw new Error(`the page does not bundle for browsers: ${message}`);
    },
  });
  try {
    const { output } = await made.generate({ format: "iife", minify: true, codeSplitting: false });
    const code = output[0].code.trim();
    if (/<\/script|<!--/i.test(code)) throw new Error("the page's code would end its own script element");
    return code;
  } finally {
    await made.close();
  }
}
