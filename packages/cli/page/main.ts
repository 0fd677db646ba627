/**
 * The page: checks the evidence that it carries, in slices so that it stays usable, and shows what came of it.
 */
import {
  EVIDENCE_FORMAT,
  EVIDENCE_MEDIA_TYPE,
  type EvidenceEntry,
  type EvidenceHeader,
  parseEvidenceLine,
} from "@tallystick/core/evidence";
import type { EvidenceTrust } from "@tallystick/core/evidence-checkpoint";
import type { EvidenceFinding, EvidenceReport } from "@tallystick/core/evidence-report";
import { EvidenceVerifier } from "@tallystick/core/evidence-verify";
import { type AttackAnswer, evidenceWords } from "@tallystick/core/evidence-words";
import { parseCosignerKey, parseVerifierKey } from "@tallystick/core/verifier-key";
import { byId, element, pair, plain } from "./elements.ts";
import { entryElement, findingElement } from "./entries.ts";

/** Time that the page may be busy before it answers to its reader again. */
const SLICE_MS = 30;
const SHOWN_AT_FIRST = 50;
const SHOWN_MORE = 200;

/** Where an entry stands in the blocks of text, and what does not fit in it. */
interface Place {
  readonly block: string;
  readonly start: number;
  readonly end: number;
  readonly seq: number | null;
  readonly findings: readonly EvidenceFinding[];
}

const blocks = evidenceBlocks();
const size = blocks.reduce((sum, block) => sum + block.length, 0);
let places: Place[] = [];
let shown = 0;
let run = 0;

/** What stands in the script elements, but for the newline that each begins with. A block ends with a line. */
function evidenceBlocks(): string[] {
  const elements = document.querySelectorAll<HTMLScriptElement>(`script[type="${EVIDENCE_MEDIA_TYPE}"]`);
  return [...elements].map(({ text }) => text.slice(1));
}

function decodedName(path: string): string {
  try {
    return decodeURIComponent(path.slice(path.lastIndexOf("/") + 1));
  } catch {
    return "FILE.html"; // not what the browser would have encoded
  }
}

/** Checks everything with these keys, and shows it. A later call stops an earlier one. */
async function check(trust: EvidenceTrust): Promise<void> {
  const own = ++run;
  const found: Place[] = [];
  let line = { block: "", start: 0, end: 0 };
  const verifier = new EvidenceVerifier(trust, {
    onEntry: ({ seq, findings }) => found.push({ ...line, seq, findings }),
  });
  const progress = byId<HTMLProgressElement>("progress");
  progress.hidden = false;
  let done = 0;
  let until = performance.now() + SLICE_MS;
  for (const block of blocks) {
    for (let start = 0; start < block.length; start = line.end) {
      const newline = block.indexOf("\n", start);
      line = { block, start, end: newline < 0 ? block.length : newline + 1 };
      verifier.write(block.slice(start, line.end));
      done += line.end - start;
      if (performance.now() < until) continue;
      progress.value = done / size;
      byId("summary").textContent = `${verifier.entries} entries so far.`;
      await turn();
      if (own !== run) return;
      until = performance.now() + SLICE_MS;
    }
  }
  progress.hidden = true;
  places = found;
  show(verifier.report());
}

/** Lets the browser draw, and the reader click. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

function show(report: EvidenceReport): void {
  const words = evidenceWords(report);
  const byFile = report.verdict === "good" && report.key?.source === "file";
  byId("verdict").className = `verdict ${report.verdict}${byFile ? " by-file" : ""}`;
  byId("headline").textContent = words.headline;
  byId("summary").textContent = plain(words.summary);
  document.title = `${words.headline}: ${plain(report.log)}`;
  byId("log").textContent = plain(report.log);
  byId("facts").replaceChildren(...factsOf(report));
  byId("findings").hidden = report.findings.length === 0;
  byId("findings-list").replaceChildren(...report.findings.map((finding) => findingElement(finding, "li")));
  byId("proved").replaceChildren(...itemsOf(words.proved, "Nothing."));
  byId("not-proved").replaceChildren(...itemsOf(words.notProved, "Nothing is left open."));
  byId("attacks").hidden = words.attacks.length === 0;
  byId("attacks-list").replaceChildren(...words.attacks.map(attackRow));
  const header = headerOf();
  byId("file-key").textContent = plain(header?.verifierKey ?? "none");
  byId("key-hint").textContent = report.key?.source === "given" ? `'${report.key.verifierKey}'` : "THE-KEY-YOU-TRUST";
  byId("checkpoint").textContent = plain(header?.checkpoint ?? "none");
  shown = 0;
  byId("entries").replaceChildren();
  showMore(SHOWN_AT_FIRST);
}

function headerOf(): EvidenceHeader | undefined {
  try {
    const [first = ""] = blocks;
    const line = parseEvidenceLine(first.slice(0, first.indexOf("\n")));
    return line.kind === "header" ? line : undefined;
  } catch {
    return undefined; // the report says what is wrong with it
  }
}

function factsOf(report: EvidenceReport): HTMLElement[] {
  const { checkpoint, selection, first, last, entries, erased, signatures } = report;
  const facts: [string, string][] = [["Entries", `${entries}`]];
  if (selection?.kind === "range") facts.push(["Positions", `${selection.from} to ${selection.to - 1}`]);
  if (selection?.kind === "filter") {
    facts.push([
      "Chosen by",
      Object.entries(selection.filter)
        .map(([name, value]) => `${name} = ${[value].flat().join(" or ")}`)
        .join(", "),
    ]);
  }
  if (first !== undefined && last !== undefined)
    facts.push(["Recorded", `${minute(first.recordedAt)} to ${minute(last.recordedAt)} UTC`]);
  if (checkpoint !== undefined) facts.push(["Size of the log then", `${checkpoint.size}`]);
  if (erased > 0) facts.push(["Erased values", `${erased}`]);
  if (signatures.valid > 0) facts.push(["Signed by publishers", `${signatures.valid}`]);
  if (report.createdAt !== "") facts.push(["Made", `${minute(report.createdAt)} UTC, by ${report.generator}`]);
  return facts.flatMap(([term, value]) => [element("div", "", ...pair(term, plain(value)))]);
}

function minute(time: string): string {
  return time.slice(0, 16).replace("T", " ");
}

function itemsOf(sentences: readonly string[], otherwise: string): HTMLElement[] {
  if (sentences.length === 0) return [element("li", "", otherwise)];
  return sentences.map((sentence) => element("li", "", plain(sentence)));
}

const ANSWERS: Record<AttackAnswer["answer"], string> = {
  ruled_out: "rules it out",
  if_key: "rules it out, if the key is the log’s",
  not_ruled_out: "does not rule it out",
};

function attackRow({ attack, answer, by }: AttackAnswer): HTMLElement {
  return element(
    "tr",
    "",
    element("td", "", attack),
    element("td", `answer ${answer}`, ANSWERS[answer]),
    element("td", "", plain(by)),
  );
}

function showMore(count: number): void {
  const until = Math.min(shown + count, places.length);
  byId("entries").append(...places.slice(shown, until).map(placeElement));
  shown = until;
  const rest = places.length - shown;
  byId("more").hidden = rest === 0;
  byId("more-some").textContent = `Show ${Math.min(rest, SHOWN_MORE)} more`;
  byId("entries-note").textContent =
    places.length === 0
      ? "There is no entry that could be read."
      : rest === 0
        ? "Choose an entry to see everything that was recorded."
        : `All ${places.length} were checked; the first ${shown} are shown. Choose one to see everything that was recorded.`;
}

async function showAll(): Promise<void> {
  const own = run;
  while (shown < places.length && own === run) {
    showMore(SHOWN_MORE);
    await turn();
  }
}

/** Makes the entry at a position visible, for a link that leads there. */
function reveal(seq: number): void {
  const index = places.findIndex((place) => place.seq === seq);
  if (index >= shown) showMore(index + 1 - shown);
}

function placeElement({ block, start, end, seq, findings }: Place): HTMLElement {
  return entryElement(parseEvidenceLine(block.slice(start, end - 1)) as EvidenceEntry, seq, findings);
}

/** Checks again with the keys that the reader gives. */
async function checkWithKeys(): Promise<void> {
  const answer = byId("key-answer");
  const given = byId<HTMLInputElement>("given-key").value.trim();
  const witnesses = byId<HTMLTextAreaElement>("witness-keys").value.split("\n");
  let trust: EvidenceTrust;
  try {
    trust = {
      ...(given !== "" && { logKey: parseVerifierKey(given) }),
      witnessKeys: witnesses
        .map((key) => key.trim())
        .filter((key) => key !== "")
        .map(parseCosignerKey),
    };
  } catch (error) {
    answer.className = "other";
    answer.textContent = `Not checked: ${(error as Error).message}.`;
    return;
  }
  const same = given === headerOf()?.verifierKey;
  answer.className = given === "" ? "" : same ? "same" : "other";
  answer.textContent =
    given === "" ? "" : same ? "It is the same key as the file’s." : "It is not the key that the file names.";
  await check(trust);
}

document.documentElement.dataset.format = EVIDENCE_FORMAT; // which format this page can read
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void checkWithKeys();
});
byId("more-some").addEventListener("click", () => showMore(SHOWN_MORE));
byId("more-all").addEventListener("click", () => void showAll());
byId("findings-list").addEventListener("click", (event) => {
  const seq = (event.target as HTMLElement).dataset?.seq;
  if (seq !== undefined) reveal(Number(seq));
});
if (location.protocol === "file:") byId("file-name").textContent = decodedName(location.pathname);
void check({});
