import fc from "fast-check";
import { expect, test } from "vitest";
import { signNote } from "../src/note.ts";
import { formatTlogProof, parseTlogProof } from "../src/tlog-proof.ts";
import { noteSigner } from "../src/verifier-key.ts";

const refused = (code?: string) => expect.objectContaining({ name: "TlogProofError", ...(code && { code }) });
const signer = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const checkpoint = signNote("first\n\nsecond\n", [signer]);
const hash = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";

test("formatTlogProof() writes the lines of C2SP tlog-proof", () => {
  const bytes = new TextEncoder().encode("12345678901234567890123456789012");
  const proof = { index: 73894, proof: [bytes, bytes], checkpoint, extra: Uint8Array.of(0, 1, 2) };
  const head = `c2sp.org/tlog-proof@v1\nextra AAEC\nindex 73894\n${hash}\n${hash}\n\n`;
  expect(formatTlogProof(proof)).toBe(head + checkpoint);
  expect(formatTlogProof({ index: 0, proof: [], checkpoint })).toBe(`c2sp.org/tlog-proof@v1\nindex 0\n\n${checkpoint}`);
});

test("parseTlogProof() reads what formatTlogProof() wrote; what it reads has one spelling", () => {
  const hashes = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 63 });
  const extra = fc.option(fc.uint8Array({ minLength: 1 }), { nil: undefined });
  fc.assert(
    fc.property(fc.maxSafeNat(), hashes, extra, fc.nat(), fc.nat(127), (index, proof, extra, at, char) => {
      const written = { index, proof, checkpoint, ...(extra && { extra }) };
      const text = formatTlogProof(written);
      expect(parseTlogProof(text)).toEqual(written);
      const position = at % text.length;
      const changed = text.slice(0, position) + String.fromCharCode(char) + text.slice(position + 1);
      try {
        expect(formatTlogProof(parseTlogProof(changed))).toBe(changed);
      } catch (error) {
        expect(error).toEqual(refused());
      }
    }),
    { numRuns: 300 },
  );
});

const v1 = "c2sp.org/tlog-proof@v1";
test.each([
  ["", "version"],
  [`\n\n${checkpoint}`, "version"],
  [`c2sp.org/tlog-proof@v2\nindex 0\n\n${checkpoint}`, "version"],
  [`${v1} \nindex 0\n\n${checkpoint}`, "version"],
  [`${v1}\r\nindex 0\r\n\r\n${checkpoint}`, "version"],
  [`${v1}\n\n${checkpoint}`, "index"],
  [v1, "index"],
  [`${v1}\nindex 00\n\n${checkpoint}`, "index"],
  [`${v1}\nindex -1\n\n${checkpoint}`, "index"],
  [`${v1}\nindex 1e3\n\n${checkpoint}`, "index"],
  [`${v1}\nindex  1\n\n${checkpoint}`, "index"],
  [`${v1}\nindex 1 \n\n${checkpoint}`, "index"],
  [`${v1}\nIndex 1\n\n${checkpoint}`, "index"],
  [`${v1}\nindex 9007199254740992\n\n${checkpoint}`, "index"],
  [`${v1}\nindex 1\nextra AAEC\n\n${checkpoint}`, "hash"],
  [`${v1}\nextra AAEC\nextra AAEC\nindex 1\n\n${checkpoint}`, "index"],
  [`${v1}\nextra\nindex 1\n\n${checkpoint}`, "extra"],
  [`${v1}\nextra \nindex 1\n\n${checkpoint}`, "extra"],
  [`${v1}\nextra AAE\nindex 1\n\n${checkpoint}`, "extra"],
  [`${v1}\nextra AAF=\nindex 1\n\n${checkpoint}`, "extra"],
  [`${v1}\nextra AAEC \nindex 1\n\n${checkpoint}`, "extra"],
  [`${v1}\nindex 1\nAAEC\n\n${checkpoint}`, "hash"],
  [`${v1}\nindex 1\n${hash} \n\n${checkpoint}`, "hash"],
  [`${v1}\nindex 1\n${hash.replace("I=", "J=")}\n\n${checkpoint}`, "hash"],
  [`${v1}\nindex 1\n${`${hash}\n`.repeat(64)}\n${checkpoint}`, "hash"],
  [`${v1}\nindex 1\n${hash}`, "checkpoint"],
  [`${v1}\nindex 1\n${hash}\n${checkpoint.replaceAll("\n\n", "\n")}`, "checkpoint"],
  [`${v1}\nindex 1\n\n`, "checkpoint"],
  [`${v1}\nindex 1\n\nno note\n`, "checkpoint"],
  [`${v1}\nindex 1\n\n${checkpoint}more`, "checkpoint"],
])("parseTlogProof(%j) throws %s", (text, code) => {
  expect(() => parseTlogProof(text)).toThrow(refused(code));
});

test.each([
  [{ index: -1 }, "index"],
  [{ index: 0.5 }, "index"],
  [{ index: 2 ** 53 }, "index"],
  [{ proof: [new Uint8Array(31)] }, "hash"],
  [{ proof: new Array<Uint8Array>(64).fill(new Uint8Array(32)) }, "hash"],
  [{ extra: new Uint8Array() }, "extra"],
])("formatTlogProof(%o) throws %s", (change, code) => {
  expect(() => formatTlogProof({ index: 0, proof: [], checkpoint, ...change })).toThrow(refused(code));
});
