/** The list of what is wrong with an evidence file, which a bad file must not make endless. */
import type { EvidenceFinding, EvidenceObstacle } from "./evidence-report.ts";

const MAX_LISTED = 1_000;

export class EvidenceFindings {
  readonly #findings: EvidenceFinding[] = [];
  readonly #obstacles: EvidenceObstacle[] = [];
  #count = 0;

  /** How many there are, listed or not. */
  get count(): number {
    return this.#count;
  }

  /** Those that are listed, and how many more there are. */
  get findings(): readonly EvidenceFinding[] {
    if (this.#count <= MAX_LISTED) return this.#findings;
    const detail = `${this.#count - MAX_LISTED} more findings are not listed`;
    return [...this.#findings, { seq: null, id: null, kind: "more", detail }];
  }

  get obstacles(): readonly EvidenceObstacle[] {
    return this.#obstacles;
  }

  /** Adds a sign of tampering; without `seq` it is no entry's. */
  find(finding: Omit<EvidenceFinding, "seq" | "id"> & Partial<EvidenceFinding>): void {
    this.#count += 1;
    if (this.#findings.length < MAX_LISTED) this.#findings.push({ seq: null, id: null, ...finding });
  }

  /** Adds something that could not be checked. One of a kind stands for all of it. */
  obstruct(code: EvidenceObstacle["code"], detail: string): void {
    if (!this.#obstacles.some((other) => other.code === code)) this.#obstacles.push({ code, detail });
  }

  /** The findings from the one numbered `start` on, of those that are listed. */
  since(start: number): readonly EvidenceFinding[] {
    return this.#findings.slice(start);
  }
}
