/** Bytes that a well-formed string takes in UTF-8, counted without encoding it. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x80) continue;
    // A surrogate pair is two units and four bytes: two for each unit.
    bytes += c < 0x800 || (c >= 0xd800 && c < 0xe000) ? 1 : 2;
  }
  return bytes;
}

/** Whether a well-formed string takes at most `limit` bytes in UTF-8. */
export function fitsUtf8(text: string, limit: number): boolean {
  // A unit is one to three bytes, so most strings need no count.
  return text.length * 3 <= limit || (text.length <= limit && utf8Length(text) <= limit);
}
