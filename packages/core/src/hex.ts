export { toHex } from "#to-hex";

/**
 * The bytes that `toHex` wrote. Upper-case digits are refused, so that one value has one spelling.
 * Throws `SyntaxError` on an odd length or on any other character.
 */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) throw new SyntaxError("not lower-case hex");
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
