/**
 * `tallystick sql`: questions to the database in its own language, with the rights of a role that cannot write.
 */
import { createInterface } from "node:readline";
import { text as readAll } from "node:stream/consumers";
import { loadConfig } from "@tallystick/server/config";
import { Command, Option } from "commander";
import { DatabaseError } from "pg";
import { withDatabase } from "../connect.ts";
import { CliError, databaseMessage } from "../errors.ts";
import { note, print } from "../output.ts";
import { describeQuery } from "../sql-describe.ts";
import { formatResult, type SqlFormat } from "../sql-format.ts";
import { SQL_ROLES, type SqlRole, SqlSession } from "../sql-session.ts";

interface Options {
  readonly database?: string;
  readonly role: SqlRole;
  readonly tenant?: string;
  readonly json?: true;
  readonly csv?: true;
}

export function sqlCommand(): Command {
  return new Command("sql")
    .description("ask the database in SQL; on a terminal without a statement, a prompt")
    .argument("[statement]", 'SQL, or \\d [table]; "-" or none reads standard input')
    .addOption(
      new Option("--role <role>", "auditor sees all tenants, reader one, admin may do anything")
        .choices(SQL_ROLES)
        .default("auditor"),
    )
    .option("--tenant <id or slug>", "whose rows the reader sees (sets tallystick.tenant_id)")
    .option("--database <url>", "another database than that of the settings")
    .addOption(new Option("--json", "print rows as JSON").conflicts("csv"))
    .option("--csv", "print rows as CSV")
    .addHelpText(
      "after",
      `
The tables are in the schema tallystick, which is on the search path. \\d lists them.

Examples:
  $ tallystick sql "select seq, recorded_at, action from entries order by seq desc limit 10"
  $ tallystick sql --role reader --tenant acme --csv "select leaf from entries" > acme.csv
  $ tallystick sql "select seq from entries where leaf_hash <> sha256('\\x00'::bytea || convert_to(leaf, 'UTF8'))"`,
    )
    .action(sql);
}

async function sql(statement: string | undefined, options: Options): Promise<void> {
  const config = loadConfig();
  if (options.role === "reader" && options.tenant === undefined) {
    note("note: the reader sees the rows of one tenant and no others; name it by --tenant");
  }
  await withDatabase({ config, url: options.database }, async (database) => {
    const session = await SqlSession.open(config, database, options.role, options.tenant);
    try {
      const format = options.json ? "json" : options.csv ? "csv" : "table";
      if ((statement === undefined || statement === "-") && process.stdin.isTTY) return await prompt(session, format);
      const text = statement === undefined || statement === "-" ? await readAll(process.stdin) : statement;
      if (text.trim() === "") throw new CliError('there is no statement: tallystick sql "select ..."');
      await run(session, text, format);
    } finally {
      await session.close();
    }
  });
}

async function run(
  session: SqlSession,
  text: string,
  format: SqlFormat,
  show: (result: string) => void = print,
): Promise<void> {
  try {
    for (const result of await session.run(describeQuery(text) ?? text)) {
      const formatted = formatResult(result, format);
      if (formatted !== "") show(formatted);
    }
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    throw new CliError(databaseMessage(error) + placeOf(error, text), { cause: error });
  }
}

/** The line that PostgreSQL points at, with a caret under the place. */
function placeOf(error: DatabaseError, text: string): string {
  if (error.position === undefined) return "";
  // PostgreSQL counts characters, JavaScript UTF-16 units.
  const before = [...text].slice(0, Number(error.position) - 1).join("");
  const start = before.lastIndexOf("\n") + 1;
  const line = text.slice(start).split("\n", 1)[0] ?? "";
  return `\n  ${line}\n  ${" ".repeat([...before.slice(start)].length)}^`;
}

/** Asks for statements until `\\q` or the end of `input`. They may run over lines, and end with a semicolon. */
export function prompt(
  session: SqlSession,
  format: SqlFormat,
  input: NodeJS.ReadableStream = process.stdin,
  output: NodeJS.WritableStream = process.stdout,
): Promise<void> {
  output.write("Statements end with ;   \\d lists tables, \\d <table> shows one, \\q leaves.\n");
  const lines = createInterface({ input, output, prompt: "tallystick=> " });
  let text = "";
  let work: Promise<void> = Promise.resolve();
  let closed = false;
  const next = () => {
    if (closed) return;
    lines.setPrompt(text === "" ? "tallystick=> " : "tallystick-> ");
    lines.prompt();
  };
  const execute = async (statement: string) => {
    try {
      await run(session, statement, format, (result) => output.write(`${result}\n`));
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      output.write(`${error.message}\n`);
    }
    next();
  };
  return new Promise((resolve, reject) => {
    lines.on("SIGINT", () => {
      text = "";
      output.write("\n");
      next();
    });
    lines.on("close", () => {
      closed = true;
      work.then(resolve, reject);
    });
    lines.on("line", (line) => {
      if (text === "" && /^\s*(\\q|exit|quit)\s*;?\s*$/.test(line)) return lines.close();
      text += text === "" ? line : `\n${line}`;
      if (text.trim() === "") text = "";
      if (!/;\s*$/.test(text) && !text.trimStart().startsWith("\\")) return next();
      const statement = text;
      text = "";
      work = work.then(() => execute(statement));
      work.catch(() => lines.close());
    });
    next();
  });
}
