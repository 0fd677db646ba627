import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { loadConfig } from "@tallystick/server/config";
import { adminUrl } from "@tallystick/server/testing/postgres";
import { expect, test } from "vitest";
import { prompt } from "../src/commands/sql.ts";
import { SqlSession } from "../src/sql-session.ts";

test("prompt() takes statements over lines, goes on after an error, and leaves at \\q", async () => {
  const url = adminUrl();
  const session = await SqlSession.open(loadConfig({}, { cwd: "/" }), { url, embedded: undefined }, "admin");
  try {
    const [input, output] = [new PassThrough(), new PassThrough()];
    const left = prompt(session, "table", input, output).then(() => output.end());
    input.write("select 1 as one,\n  2 as two;\nselect nothing;\nselect 'still here' as answer;\n\\q\n");
    const shown = await text(output);
    await left;
    expect(shown).toContain("one  two\n---  ---\n1    2\n(1 row)\n");
    expect(shown).toContain("tallystick-> ");
    expect(shown).toContain('column "nothing" does not exist');
    expect(shown).toContain("still here");
  } finally {
    await session.close();
  }
});
