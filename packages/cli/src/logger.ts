/**
 * The server's log on stderr: JSON lines for programs, short lines for a person at a terminal.
 */
import { styleText } from "node:util";
import { redaction } from "@tallystick/server/redaction";
import { type DestinationStream, type Logger, type LoggerOptions, pino } from "pino";

/**
 * Written synchronously: what a crash has to say is out before the process is gone.
 *
 * @param secrets never shown, whatever message they are in.
 */
export function stderrLogger(level: string, secrets: readonly string[] = []): Logger {
  const options: LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // Credentials are never logged on purpose; this is for those that an error carries along.
    ...redaction(secrets),
  };
  return pino(options, process.stderr.isTTY ? terminal : pino.destination({ dest: 2, sync: true }));
}

const COLORS = { warn: "yellow", error: "red", fatal: "red" } as const;

const terminal: DestinationStream = {
  write(line) {
    const { level, time, msg, err, ...facts } = JSON.parse(line) as Record<string, unknown>;
    const name = String(level);
    const color = name in COLORS ? COLORS[name as keyof typeof COLORS] : "dim";
    const rest = Object.entries(facts).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
    const { stack, message } = (err ?? {}) as { stack?: string; message?: string };
    const cause =
      err === undefined ? "" : `\n  ${String(stack ?? message ?? JSON.stringify(err)).replaceAll("\n", "\n  ")}`;
    const clock = String(time).slice(11, 19);
    process.stderr.write(
      `${styleText("dim", clock, { stream: process.stderr })} ${styleText(color, name, { stream: process.stderr })} ${msg ?? ""}${rest.join("")}${cause}\n`,
    );
  },
};
