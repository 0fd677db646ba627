/**
 * Bytes in standard, padded base64 (RFC 4648 section 4). Where `Buffer` exists, `#to-base64` resolves to `to-base64.node.ts`
 * instead: a receipt has a score of hashes, and this was the most of its cost.
 */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  // In pieces: spreading a large array into one call overflows the stack.
  for (let i = 0; i < bytes.length; i += 4096) binary += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(binary);
}
