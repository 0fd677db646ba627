/**
 * Pages that carry evidence: writing one, and finding the evidence in one again.
 *
 * A page is a fixed beginning, the lines of the evidence as they are, and a fixed end. Lines have no `<` in them, so that
 * nothing in them is HTML, and the first `<` ends them, or the script element that they stand in: browsers take very long
 * (27 s against 1 s at 174 MB in Chromium 147) to read one element of that size.
 */
import { readFile } from "node:fs/promises";
import { EVIDENCE_MEDIA_TYPE } from "@tallystick/core/evidence";

const PLACE = "{{evidence}}";
const BEGIN = Buffer.from(`<script type="${EVIDENCE_MEDIA_TYPE}">\n`);
/** From one element to the next. */
const NEXT = Buffer.concat([Buffer.from("</script>\n"), BEGIN]);
const BLOCK_BYTES = 2 ** 20;
/** Where the evidence begins is looked for in no more than this. */
const MAX_BEGINNING_BYTES = 2 ** 20;
const LESS_THAN = 0x3c;
const NEWLINE = 0x0a;

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
 * The page around evidence that arrives in pieces of any size.
 *
 * @throws {SyntaxError} at a `<`, which no evidence has: what comes from elsewhere must not become part of the page.
 */
export async function* pageOf(frame: PageFrame, evidence: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield Buffer.from(frame.before);
  let inBlock = 0;
  for await (const chunk of evidence) {
    if (chunk.includes(LESS_THAN)) throw new SyntaxError("what arrived is no evidence: there is a < in it");
    const end = inBlock + chunk.length < BLOCK_BYTES ? -1 : chunk.lastIndexOf(NEWLINE);
    if (end < 0) {
      yield chunk;
      inBlock += chunk.length;
      continue;
    }
    yield chunk.subarray(0, end + 1);
    yield NEXT;
    yield chunk.subarray(end + 1);
    inBlock = chunk.length - end - 1;
  }
  yield Buffer.from(frame.after);
}

/** The evidence in a page, as it arrives; to be used once. */
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

  /** @throws {SyntaxError} where there is no evidence in it. */
  async *read(page: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
    let state: "before" | "inside" | "after" = "before";
    let kept = Buffer.alloc(0);
    for await (const chunk of page) {
      // A page that goes on for ever behind its evidence is not ours, and is not kept.
      if (state !== "after" || kept.length <= MAX_BEGINNING_BYTES) kept = Buffer.concat([kept, chunk]);
      if (state === "before") {
        const at = kept.indexOf(BEGIN);
        if (at < 0 && kept.length > MAX_BEGINNING_BYTES) break;
        if (at < 0) continue;
        const end = at + BEGIN.length;
        this.#own = kept.subarray(0, end).equals(Buffer.from(this.#frame.before));
        kept = kept.subarray(end);
        state = "inside";
      }
      while (state === "inside") {
        const end = kept.indexOf(LESS_THAN);
        if (end !== 0 && kept.length > 0) yield end < 0 ? kept : kept.subarray(0, end);
        kept = end < 0 ? Buffer.alloc(0) : kept.subarray(end);
        const next = NEXT.subarray(0, kept.length);
        if (!kept.subarray(0, NEXT.length).equals(next)) state = "after";
        else if (kept.length < NEXT.length)
          break; // the rest of it is on its way
        else kept = kept.subarray(NEXT.length);
      }
    }
    if (state === "before") throw new SyntaxError("there is no evidence in this page");
    this.#own &&= kept.equals(Buffer.from(this.#frame.after));
  }
}
