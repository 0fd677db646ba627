/**
 * What text search knows of values that are committed, through their openings.
 */

/** An opening, as it is kept. */
export interface OpeningText {
  readonly pointer: string;
  /** JCS. */
  readonly value: string;
}

const NAME = /^\/event\/actor(?:\/on_behalf_of)*\/(?:name|email)$/;
const ADDRESS = "/event/context/ip";

/** The texts and addresses behind the commitments of one entry. What is no JSON text is passed over: no reader is shown it either. */
export function openedTexts(openings: readonly OpeningText[]): { texts: string[]; ips: string[] } {
  const texts: string[] = [];
  const ips: string[] = [];
  for (const { pointer, value } of openings) {
    const into = pointer === ADDRESS ? ips : NAME.test(pointer) ? texts : undefined;
    const said = into && textIn(value);
    if (said !== undefined) into!.push(said);
  }
  return { texts, ips };
}

function textIn(json: string): string | undefined {
  try {
    const said: unknown = JSON.parse(json);
    return typeof said === "string" ? said : undefined;
  } catch {
    return undefined;
  }
}
