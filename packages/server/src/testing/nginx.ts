/**
 * A real nginx with the configuration of deploy/nginx, for tests: the system's, or the one that deploy/nginx/get-nginx.sh unpacks.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const CONFIGURATION = join(ROOT, "deploy/nginx/tallystick.conf");
const PLACES = ["nginx", "/usr/sbin/nginx", join(ROOT, "node_modules/.cache/nginx/usr/sbin/nginx")];

/** Where nginx is; undefined where this machine has none. */
export function findNginx(): string | undefined {
  return PLACES.find((place) => {
    try {
      execFileSync(place, ["-v"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  });
}

export interface NginxOptions {
  /** For its files. */
  readonly directory: string;
  /** host:port of the server behind it. */
  readonly upstream: string;
  readonly files: { readonly cert: string; readonly key: string; readonly ca: string };
  /** What else is exchanged in the configuration: text for text. */
  readonly exchange?: Readonly<Record<string, string>>;
}

export class Nginx {
  readonly url: string;
  readonly #process: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#process = child;
  }

  /** Starts it on a free port; resolves once it listens. @throws with what it said, where the configuration is not good. */
  static async start(nginx: string, { directory, upstream, files, exchange = {} }: NginxOptions): Promise<Nginx> {
    const port = await freePort();
    await mkdir(directory, { recursive: true });
    await chmod(directory, 0o755);
    let site = await readFile(CONFIGURATION, "utf8");
    for (const [from, to] of Object.entries({
      "listen 443 ssl;": `listen 127.0.0.1:${port} ssl;`,
      "listen [::]:443 ssl;": "",
      "server 127.0.0.1:8000;": `server ${upstream};`,
      "/etc/tallystick/server.pem": files.cert,
      "/etc/tallystick/server.key": files.key,
      "/etc/tallystick/ca.pem": files.ca,
      ...exchange,
    })) {
      if (!site.includes(from)) throw new Error(`deploy/nginx/tallystick.conf has no "${from}"`);
      site = site.replaceAll(from, to);
    }
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `${name}_temp_path ${join(directory, name)};`,
    );
    const whole = `${process.getuid?.() === 0 ? "user root;" : ""}
daemon off;
pid ${join(directory, "nginx.pid")};
error_log stderr warn;
events {}
http {
  access_log off;
  ${temporary.join("\n  ")}
  ${site}
}`;
    const path = join(directory, "nginx.conf");
    await writeFile(path, whole);
    const child = spawn(nginx, ["-p", directory, "-e", "stderr", "-c", path], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr!.on("data", (chunk) => {
      said += String(chunk);
    });
    const ended = once(child, "exit").then(() => false);
    const url = `https://127.0.0.1:${port}`;
    if (!(await Promise.race([listens(port), ended]))) throw new Error(`nginx does not start: ${said}`);
    return new Nginx(url, child);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    this.#process.kill("SIGTERM");
    await once(this.#process, "exit");
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function listens(port: number): Promise<boolean> {
  for (let i = 0; i < 1_000; i++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      }).on("error", () => resolve(false));
    });
    if (open) return true;
    await new Promise((resolve) => setTimeout(resolve, 10)); // the pause between two looks
  }
  return false;
}
