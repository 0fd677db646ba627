export { toBase64 } from "#to-base64";

/**
 * The bytes that {@link toBase64} wrote. White space, missing padding and non-zero trailing bits are refused
 * (RFC 4648 sections 3.3 and 3.5), so that one value has one spelling and a signed line cannot be respelled.
 * Throws `SyntaxError` on anything else.
 */
export function fromBase64(text: string): Uint8Array {
  let binary: string;
  try {
    binary = atob(text);
  } catch (cause) {
    throw new SyntaxError("not base64", { cause });
  }
  // atob is lenient; only what encodes back to the same text was canonical.
  if (btoa(binary) !== text) throw new SyntaxError("not canonical base64");
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
