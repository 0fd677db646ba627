/**
 * A server in a process of its own, for tests: settings from the environment, credentials to the parent, SIGTERM stops it.
 */
import { pino } from "pino";
import { loadConfig, secretsOf } from "../config.ts";
import { redaction } from "../redaction.ts";
import { startServer } from "../start.ts";

// A test that was killed leaves nothing behind.
const die = () => process.kill(process.pid, "SIGKILL");
process.once("disconnect", die);
try {
  const config = loadConfig();
  const level = config.given.logLevel.source === "default" ? "warn" : config.logLevel;
  const server = await startServer(config, {
    logger: pino({ level, ...redaction(secretsOf(config)) }, process.stderr),
    say: (message) => process.stderr.write(`${message}\n`),
  });
  process.once("SIGTERM", async () => {
    await server.stop();
    // The process has to end by itself: whatever keeps it alive is a leak.
    process.off("disconnect", die);
    process.disconnect();
  });
  process.send?.({ url: server.url, credentials: server.credentials });
} catch (error) {
  process.stderr.write(`${error instanceof Error ? `${error.name}: ${error.message}` : error}\n`);
  process.exit(1);
}
