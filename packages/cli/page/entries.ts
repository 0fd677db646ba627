/** The entries, for people: who did what to what, when, and how it ended; below that, everything that was recorded. */
import { actorTypeOf, occurredAtOf, outcomeOf, severityOf } from "@tallystick/core/defaults";
import { type Actor, type Event, OUTCOMES } from "@tallystick/core/event";
import type { EvidenceEntry } from "@tallystick/core/evidence";
import { type OpenedEntry, openEntry } from "@tallystick/core/evidence-entry";
import type { EvidenceFinding } from "@tallystick/core/evidence-report";
import { element, pair, plain } from "./elements.ts";

const KNOWN_OUTCOMES: ReadonlySet<string> = new Set(OUTCOMES);

/** One entry as a line that opens. `seq`: the position that it was found at. */
export function entryElement(
  line: EvidenceEntry,
  seq: number | null,
  findings: readonly EvidenceFinding[],
): HTMLDetailsElement {
  const made = element("details", findings.length > 0 ? "entry bad" : "entry");
  if (seq !== null) made.id = `entry-${seq}`;
  const opened = open(line);
  made.append(element("summary", "", ...summaryOf(opened, seq, findings)));
  const fill = () => {
    if (made.childElementCount === 1) made.append(detailOf(line, opened, findings));
  };
  // Only what is looked at is made: a file may have very many entries.
  made.addEventListener("toggle", fill);
  if (findings.length > 0) {
    fill();
    made.open = true;
  }
  return made;
}

function open(line: EvidenceEntry): OpenedEntry | undefined {
  try {
    return openEntry(line);
  } catch {
    return undefined; // what is wrong with it is one of its findings
  }
}

function summaryOf(
  entry: OpenedEntry | undefined,
  seq: number | null,
  findings: readonly EvidenceFinding[],
): HTMLElement[] {
  const position = element("span", "seq", seq === null ? "?" : `#${seq}`);
  const bad = findings.length > 0 ? [element("span", "tag bad", "does not fit")] : [];
  if (entry === undefined) {
    return [
      position,
      element("span", "when", ""),
      element("span", "who", "cannot be read"),
      element("span"),
      element("span", "tags", ...bad),
    ];
  }
  const { opened, erased, leaf } = entry;
  const { event } = opened;
  const outcome = textOf(outcomeOf(event));
  const severity = textOf(severityOf(event));
  const tags = [
    ...bad,
    ...(severity === "INFO" ? [] : [element("span", "tag", severity)]),
    ...(leaf.publisher === undefined ? [] : [element("span", "tag", "signed")]),
    ...(erased.length === 0
      ? []
      : [element("span", "tag erased", erased.length === 1 ? "1 value erased" : `${erased.length} values erased`)]),
    element("span", `tag ${KNOWN_OUTCOMES.has(outcome) ? outcome : ""}`, outcome),
  ];
  const time = element("time", "when", leaf.recorded_at.replace("T", " ").replace(/\.\d+Z$/, " UTC"));
  time.dateTime = leaf.recorded_at;
  return [
    position,
    time,
    element("span", "who", ...whoIs(event.actor)),
    element("span", "what", element("span", "action", textOf(event.action)), ...onWhat(event)),
    element("span", "tags", ...tags),
  ];
}

/** Whoever holds the log's key may have recorded anything as an actor: what is no actor is shown as the JSON that it is. */
function whoIs(actor: Actor): (Node | string)[] {
  if (!isObject(actor)) return [valueNode(actor)];
  const { name, id } = actor;
  const type = actorTypeOf(actor);
  const who: (Node | string)[] = [];
  if (name !== undefined) who.push(valueNode(name), " ");
  if (id !== undefined) who.push(name === undefined ? textOf(id) : `(${textOf(id)})`);
  if (type !== "user" || who.length === 0) who.push(who.length === 0 ? textOf(type) : `, ${textOf(type)}`);
  if (actor.on_behalf_of !== undefined) who.push(" for ", ...whoIs(actor.on_behalf_of));
  return who;
}

function onWhat({ resource }: Event): (Node | string)[] {
  if (resource === undefined) return [];
  if (!isObject(resource)) return [" on ", valueNode(resource)];
  const id = resource.id === undefined ? "" : ` ${textOf(resource.id)}`;
  const name = resource.name === undefined ? [] : [" (", valueNode(resource.name), ")"];
  return [` on ${textOf(resource.type)}${id}`, ...name];
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  return plain(typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
}

/** A value of the event; a commitment is shown as the erased value that it stands for. */
function valueNode(value: unknown): Node {
  if (isMark(value, "$committed")) return element("span", "erased", "erased");
  if (isMark(value, "$masked")) return element("span", "erased", `masked (${textOf(value.$masked)})`);
  return document.createTextNode(textOf(value));
}

function isMark(value: unknown, key: "$committed" | "$masked"): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  return key in value && Object.keys(value).length === 1;
}

function detailOf(
  line: EvidenceEntry,
  entry: OpenedEntry | undefined,
  findings: readonly EvidenceFinding[],
): HTMLElement {
  const made = element("div", "detail", ...findings.map((finding) => findingElement(finding, "div")));
  if (entry !== undefined) {
    const { opened, leaf } = entry;
    const fields = element("dl", "fields");
    for (const [path, value] of valuesIn(opened.event)) fields.append(...pair(plain(path), valueNode(value)));
    if (leaf.event.occurred_at === undefined)
      fields.append(...pair("occurred_at", occurredAtOf(leaf.event, leaf.recorded_at), " (when it was recorded)"));
    fields.append(
      ...pair("recorded_at", leaf.recorded_at),
      ...pair("id", element("code", "", plain(leaf.id))),
      ...pair("service", plain(`${leaf.service.id}, its entry number ${leaf.service.seq}`)),
    );
    if (opened.publisher !== undefined) fields.append(...pair("publisher", valueNode(opened.publisher)));
    made.append(fields);
  }
  made.append(
    element("h3", "", "The bytes that are in the log"),
    element("pre", "", line.leaf),
    element("h3", "", "Their hash"),
    element("p", "", element("code", "", line.leafHash)),
  );
  return made;
}

/** The members of an event by path, `actor.name` and so on; what is free form (metadata, changes) as JSON. */
function valuesIn(value: object, at = ""): [string, unknown][] {
  return Object.entries(value).flatMap(([key, member]): [string, unknown][] => {
    const path = at === "" ? key : `${at}.${key}`;
    const nested =
      typeof member === "object" &&
      member !== null &&
      !Array.isArray(member) &&
      !isMark(member, "$committed") &&
      !isMark(member, "$masked");
    return nested ? valuesIn(member, path) : [[path, member]];
  });
}

/** A finding: where, what, and the values that do not agree. */
export function findingElement<Name extends "li" | "div">(finding: EvidenceFinding, name: Name): HTMLElement {
  const { seq, id, kind, field, stored, expected, detail } = finding;
  const made = element(name, name === "div" ? "finding" : "");
  if (name === "li" && seq !== null) {
    const link = element("a", "", `Position ${seq}`);
    link.href = `#entry-${seq}`;
    link.dataset.seq = `${seq}`;
    made.append(link, id === null ? ": " : `, id ${plain(id)}: `);
  }
  made.append(`${plain(detail)} (${kind}${field === undefined ? "" : `, ${plain(field)}`})`);
  const values = element("dl", "finding-values");
  if (stored !== undefined) values.append(...pair("found", element("code", "", plain(stored))));
  if (expected !== undefined) values.append(...pair("expected", element("code", "", plain(expected))));
  if (values.childElementCount > 0) made.append(values);
  return made;
}
