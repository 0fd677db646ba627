/**
 * A certificate authority for tests, by openssl: certificates of any names and any validity, and a revocation list.
 */
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const DAY_MS = 86_400_000;

export interface IssuedCertificate {
  readonly certPath: string;
  readonly keyPath: string;
  readonly cert: string;
  readonly key: string;
  /** SHA-256 of the DER; hex. */
  readonly fingerprint: string;
}

export class TestCa {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  get certPath(): string {
    return join(this.directory, "ca.pem");
  }

  /** The list of what {@link revoke} has revoked. */
  get crlPath(): string {
    return join(this.directory, "crl.pem");
  }

  /** @param directory made for it. */
  static async create(directory: string, name = "test CA"): Promise<TestCa> {
    const ca = new TestCa(directory);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "index.txt"), "");
    await writeFile(join(directory, "ca.cnf"), CONFIG);
    await ca.#openssl(
      "req",
      "-x509",
      "-new",
      ...NEW_KEY,
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-days",
      "30",
      "-subj",
      `/CN=${name}`,
    );
    await ca.#writeCrl();
    return ca;
  }

  /**
   * @param names as openssl writes subjectAltName, or a section of its configuration's form (`otherName...`); one for each name.
   * @param from days from now. @param to days from now.
   */
  async issue(
    name: string,
    { names = [`DNS:${name}`], from = -1, to = 30 }: { names?: readonly string[]; from?: number; to?: number } = {},
  ): Promise<IssuedCertificate> {
    const file = (end: string) => join(this.directory, `${name}.${end}`);
    const sections = names.map((one, i) => `${one.replace(":", `.${i} = `)}`).join("\n");
    const san = names.length === 0 ? "" : `subjectAltName = @names\n[names]\n${sections}\n`;
    await writeFile(
      file("cnf"),
      `[extensions]\nbasicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth, clientAuth\n${san}`,
    );
    await this.#openssl("req", "-new", ...NEW_KEY, "-keyout", file("key"), "-out", file("csr"), "-subj", `/CN=${name}`);
    await this.#openssl(
      ...["ca", "-batch", "-notext", "-config", "ca.cnf", "-in", file("csr"), "-out", file("pem")],
      ...["-startdate", asn1Time(from), "-enddate", asn1Time(to), "-extfile", file("cnf"), "-extensions", "extensions"],
    );
    const [cert, key] = await Promise.all([readFile(file("pem"), "utf8"), readFile(file("key"), "utf8")]);
    const fingerprint = new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase();
    return { certPath: file("pem"), keyPath: file("key"), cert, key, fingerprint };
  }

  async revoke({ certPath }: IssuedCertificate): Promise<void> {
    await this.#openssl("ca", "-config", "ca.cnf", "-revoke", certPath);
    await this.#writeCrl();
  }

  #writeCrl(): Promise<void> {
    return this.#openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem");
  }

  async #openssl(...args: readonly string[]): Promise<void> {
    await run("openssl", args, { cwd: this.directory });
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"] as const;

const CONFIG = `
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
`;

/** YYYYMMDDHHMMSSZ */
function asn1Time(days: number): string {
  return `${new Date(Date.now() + days * DAY_MS).toISOString().replace(/[-:T]|\..*/g, "")}Z`;
}
