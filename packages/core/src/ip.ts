/**
 * The one text of an IP address: IPv4 as four decimal numbers without leading zeros (RFC 6943, section 3.1.1:
 * other forms are read differently by different programs), IPv6 as RFC 5952 has it. An IPv4-mapped IPv6 address
 * (`::ffff:192.0.2.1`, which is how a dual-stack socket reports an IPv4 peer) becomes the IPv4 address, so that
 * one peer has one text whatever the socket.
 *
 * @returns `undefined` when the text is no address; an address with a zone id, a port, a prefix length or
 * brackets is none.
 */
export function normalizeIp(text: string): string | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(":")) return parseV4(text) === undefined ? undefined : text;
  const groups = parseV6(text);
  if (groups === undefined) return undefined;
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high, low] = [groups[6]!, groups[7]!];
    return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
  }
  return formatV6(groups);
}

/** The 4 or 16 bytes of an address in that text; undefined where it is none. */
export function ipBytes(address: string): number[] | undefined {
  const groups = address.includes(":") ? parseV6(address) : parseV4(address);
  return groups?.flatMap((group) => [group >> 8, group & 255]);
}

const V4 =
  /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$/;

/** Two 16-bit groups. */
function parseV4(text: string): [number, number] | undefined {
  const match = V4.exec(text);
  if (match === null) return undefined;
  const [a, b, c, d] = match.slice(1).map(Number);
  return [a! * 256 + b!, c! * 256 + d!];
}

/** Eight 16-bit groups, by the grammar of RFC 4291, section 2.2. */
function parseV6(text: string): number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves[1] === undefined ? [] : parseGroups(halves[1], true);
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return [...head, ...new Array<number>(missing).fill(0), ...tail];
}

/** Groups between colons; the last may be an IPv4 address where the text ends the IPv6 address. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      const v4 = last && i === parts.length - 1 ? parseV4(part) : undefined;
      if (v4 === undefined) return undefined;
      groups.push(...v4);
    }
  }
  return groups;
}

/** RFC 5952, section 4: lower case, no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`. */
function formatV6(groups: number[]): string {
  let [start, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
    if (end > i) i = end - 1;
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(":");
  if (start === -1) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}
