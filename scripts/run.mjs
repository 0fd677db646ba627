// Runs a program of this repository under its own Node 24, after installing what is missing.
//
//   node scripts/run.mjs [node options] <file | name of a bin in node_modules> [arguments]
//
// Plain JavaScript without dependencies: it has to run before `npm ci` did, under whatever Node (18 or newer)
// the machine has. Everything after it runs under node_modules/.bin/node.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync, rmSync, statSync } from "node:fs";
import { constants } from "node:os";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BIN = join(ROOT, "node_modules", ".bin");
const NODE = join(BIN, "node");
const NODE_MAJOR = 24;
const PARENT_POLL_MS = 200;
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"];

function say(line) {
  process.stderr.write(`tallystick: ${line}\n`);
}

function die(...lines) {
  lines.forEach(say);
  process.exit(1);
}

/** Why node_modules cannot be used as it is, or undefined when it can. Reads a few files, starts nothing. */
function whatIsMissing() {
  const installed = join(ROOT, "node_modules", ".package-lock.json");
  const wanted = join(ROOT, "package-lock.json");
  if (!existsSync(installed)) return "nothing is installed yet";
  if (statSync(wanted).mtimeMs > statSync(installed).mtimeMs && !sameVersions(wanted, installed)) {
    return "package-lock.json changed since the last installation";
  }
  return whyNodeIsUnusable();
}

/** Git touches package-lock.json on every switch of branches; only another content is worth an installation. */
function sameVersions(wantedFile, installedFile) {
  const wanted = JSON.parse(readFileSync(wantedFile, "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedFile, "utf8")).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "" || entry.link) return true;
    const found = installed[path];
    // Optional packages are those of other platforms.
    return found === undefined ? entry.optional === true || !path.includes("node_modules/") : sameEntry(entry, found);
  });
}

function sameEntry(wanted, found) {
  return wanted.version === found.version && wanted.integrity === found.integrity;
}

function whyNodeIsUnusable() {
  try {
    // Without its install script the npm package `node` has no binary, and .bin/node leads nowhere.
    const file = realpathSync(NODE);
    const { version } = JSON.parse(readFileSync(join(ROOT, "node_modules", "node", "package.json"), "utf8"));
    if (Number.parseInt(version, 10) < NODE_MAJOR) return `node_modules has Node ${version}, ${NODE_MAJOR} is needed`;
    // 0o111: a binary unpacked without its mode bits cannot be started.
    if ((statSync(file).mode & 0o111) === 0) return `${NODE} is not executable`;
    return isForThisMachine(file) ? undefined : "node_modules was installed on another kind of machine";
  } catch (error) {
    return `node_modules/.bin/node is missing (${error.code ?? error.message})`;
  }
}

/**
 * Reads the binary's header. Starting it is no test: a checkout that was copied or mounted from another machine has a
 * file that the system hands to the shell as if it were a script.
 */
function isForThisMachine(file) {
  const header = Buffer.alloc(20);
  const descriptor = openSync(file, "r");
  readSync(descriptor, header, 0, header.length, 0);
  closeSync(descriptor);
  if (process.platform === "linux") {
    const machines = { x64: 0x3e, arm64: 0xb7 };
    const machine = machines[process.arch];
    return header.readUInt32BE(0) === 0x7f454c46 && (machine === undefined || header.readUInt16LE(18) === machine);
  }
  if (process.platform === "darwin") {
    // An arm64 Mac runs both.
    const machines = process.arch === "arm64" ? [0x0100000c, 0x01000007] : [0x01000007];
    return header.readUInt32LE(0) === 0xfeedfacf && machines.includes(header.readUInt32LE(4));
  }
  return true;
}

function install(reason) {
  // Packages' install scripts run with node_modules/.bin first on the PATH: a broken Node there would break them.
  if (whyNodeIsUnusable() !== undefined) rmSync(NODE, { force: true });
  say(`${reason}: running "npm ci", once, about half a minute`);
  let { status, stderr } = npm("ci");
  if (status !== 0 && stderr.includes("EUSAGE")) {
    // A lock file written where the registry did not have every platform's optional packages is refused by `npm ci`
    // everywhere; `npm install` takes the same locked versions and checks them just as well.
    say(`"npm ci" finds package-lock.json incomplete: running "npm install --no-save" instead`);
    ({ status, stderr } = npm("install", "--no-save"));
  }
  process.stderr.write(stderr);
  if (status === 0) return;
  die(
    `npm could not install what is missing; its own message is above.`,
    `Usual causes: no way to the npm registry (proxy, offline), no room on the disk, no right to write in ${ROOT}.`,
    `Mend that, then run "npm ci --include=dev" in ${ROOT} and start again.`,
  );
}

function npm(...args) {
  // Under `npm start` the same npm; otherwise the one on the PATH.
  const own = process.env.npm_execpath;
  const [command, first] =
    own !== undefined && basename(own) === "npm-cli.js" ? [process.execPath, [own]] : ["npm", []];
  // --include=dev: Node 24 is a development dependency, and NODE_ENV=production would leave it out.
  // --loglevel=error: npm runs under an older Node here, and would warn about every package that wants a newer one.
  const options = ["--include=dev", "--no-fund", "--no-audit", "--loglevel=error"];
  // The program's stdout is the program's alone: npm's goes to stderr.
  const result = spawnSync(command, [...first, ...args, ...options], {
    cwd: ROOT,
    stdio: ["ignore", 2, "pipe"],
    encoding: "utf8",
  });
  if (result.error === undefined) return result;
  return die(
    `npm could not be started (${result.error.message}).`,
    `Install npm 10 or newer, then run "npm ci --include=dev" in ${ROOT}.`,
  );
}

/** The Node to use after an installation: ours, or this one if it is new enough and ours did not arrive. */
function nodeAfterInstall() {
  const problem = whyNodeIsUnusable();
  if (problem === undefined) return NODE;
  if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR) return process.execPath;
  return die(
    `${problem}, although "npm ci" succeeded: npm was told not to run install scripts.`,
    `Run "npm rebuild node --ignore-scripts=false" in ${ROOT}, or start with Node ${NODE_MAJOR} or newer.`,
  );
}

/** [options of Node, the program's file, its arguments] */
function parse(argv) {
  const at = argv.findIndex((argument) => !argument.startsWith("-"));
  if (at === -1) die("usage: node scripts/run.mjs [node options] <file or bin> [arguments]");
  return [argv.slice(0, at), argv[at], argv.slice(at + 1)];
}

/** What follows `node` on the command line; a bin that is not JavaScript is started itself. */
function commandLine(node, nodeOptions, program, programArguments) {
  const options = ["--conditions=source", ...nodeOptions];
  if (/[/\\]|\.[cm]?[jt]s$/.test(program)) return [node, [...options, resolve(ROOT, program), ...programArguments]];
  const link = join(BIN, program);
  if (!existsSync(link)) die(`there is no program "${program}" in node_modules/.bin.`, `Run "npm ci" in ${ROOT}.`);
  const file = realpathSync(link);
  const isScript = /^#!.*\bnode\b/.test(readFileSync(file, "latin1").slice(0, 200));
  return isScript ? [node, [...options, file, ...programArguments]] : [file, programArguments];
}

/**
 * npm starts a shell that starts us. A SIGTERM to npm ends that shell, which passes nothing on: then the program is to
 * end as well, instead of living on unseen. Without npm it may well outlive its parent (nohup).
 */
function watchForNpm(onGone) {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) onGone();
  }, PARENT_POLL_MS).unref();
}

function run(node, mayReinstall) {
  const [nodeOptions, program, programArguments] = parse(process.argv.slice(2));
  const [command, args] = commandLine(node, nodeOptions, program, programArguments);
  // Programs that the program starts through `#!/usr/bin/env node` get Node 24 as well.
  const PATH = process.env.PATH?.startsWith(BIN + delimiter)
    ? process.env.PATH
    : `${BIN}${delimiter}${process.env.PATH ?? ""}`;
  // What V8 has compiled once is kept: a command of the program starts in 0.4 s of CPU in place of 0.9, and the tests start hundreds.
  const NODE_COMPILE_CACHE = process.env.NODE_COMPILE_CACHE ?? join(ROOT, "node_modules", ".cache", "compiled");
  const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, PATH, NODE_COMPILE_CACHE } });

  const sent = new Set();
  function forward(signal) {
    // npm, a shell and a service manager may each pass the same request on: the child hears it once.
    if (sent.has(signal)) return;
    sent.add(signal);
    child.kill(signal);
  }
  const handlers = FORWARDED.map((signal) => {
    // Ctrl-C reaches the whole foreground group, the child included; a second one means "at once" to many programs.
    const handler = () => (signal === "SIGINT" && process.stdin.isTTY ? undefined : forward(signal));
    process.on(signal, handler);
    return [signal, handler];
  });
  watchForNpm(() => forward("SIGTERM"));

  child.on("error", (error) => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
    // Installed on another machine (a copied or mounted checkout): the file is there, but is no program here.
    if (!mayReinstall)
      die(`${command} could not be started: ${error.message}.`, `Run "npm ci --include=dev" in ${ROOT}.`);
    install(`${command} does not run on this machine (${error.code})`);
    run(nodeAfterInstall(), false);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    for (const [name, handler] of handlers) process.off(name, handler);
    // Ended by a signal: end the same way, so that a shell or npm sees what happened.
    process.kill(process.pid, signal);
    // Signals that are ignored by default do not end this process; the shell's number for them does.
    setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 100);
  });
}

const missing = whatIsMissing();
if (missing === undefined) {
  run(NODE, true);
} else {
  install(missing);
  run(nodeAfterInstall(), false);
}
