/**
 * Pages that carry evidence: writing one, and finding the evidence in one again.
 *
 * A page is a fixed beginning, the lines of the evidence as they are, and a fixed end. Lines have no `<` in them, so that
 * nothing in them is HTML, and the first `<` ends them.
 */
import { readFile } from "node:fs/promises";

const PLACE = "{{evidence}}";
const MARK = Buffer.from('<script type="application/vnd.tallystick.evidence+ndjson" id="evidence">\n');
/** Where the evidence begins is looked for in no more than this. */
const MAX_BEGINNING_BYTES = 2 ** 20;
const LESS_THAN = 0x3c;

/** What stands around the evidence. */
export interface PageFrame {
  readonly before: string;
  readonly after: string;
}

/** The page of this version (`npm run generate` makes it). */
export async function readPageFrame(): Promise<PageFrame> {
  const page = await readFile(new URL("../assets/evidence-page.html", import.meta.url), "utf8");
  const [before, after] = page.split(PLACE);
  if (before === undefined || after === undefined) throw new Error("the page has no place for evidence");
  return { before, after };
}

/**
 * The evidence in a page, as it arrives; to be used once.
 *
 * @throws {SyntaxError} where there is no evidence in it.
 */
export class PageEvidence {
  readonly #frame: PageFrame;
  #own = true;

  constructor(frame: PageFrame) {
    this.#frame = frame;
  }

  /**
   * Whether the page around the evidence is the one of this version, once all of it was read. Of any other page nobody can
   * say here what it shows.
   */
  get own(): boolean {
    return this.#own;
  }

  async *read(page: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let state: "before" | "inside" | "after" = "before";
    let kept = Buffer.alloc(0);
    for await (const chunk of page) {
      let rest = chunk;
      if (state === "before") {
        kept = Buffer.concat([kept, chunk]);
        const at = kept.indexOf(MARK);
        if (at < 0) {
          if (kept.length > MAX_BEGINNING_BYTES) break;
          continue;
        }
        const end = at + MARK.length;
        this.#own = kept.subarray(0, end).equals(Buffer.from(this.#frame.before));
        rest = kept.subarray(end);
        kept = Buffer.alloc(0);
        state = "inside";
      }
      if (state === "inside") {
        const end = rest.indexOf(LESS_THAN);
        yield end < 0 ? rest : rest.subarray(0, end);
        if (end < 0) continue;
        rest = rest.subarray(end);
        state = "after";
      }
      // A page that goes on for ever is not ours, and is not kept.
      if (kept.length <= MAX_BEGINNING_BYTES) kept = Buffer.concat([kept, rest]);
    }
    if (state === "before") throw new SyntaxError("there is no evidence in this page");
    this.#own &&= kept.equals(Buffer.from(this.#frame.after));
  }
}
