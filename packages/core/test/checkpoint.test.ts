import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatCheckpoint, openCheckpoint, parseCheckpoint, signCheckpoint } from "../src/checkpoint.ts";
import { TreeEdge } from "../src/edge.ts";
import { toHex } from "../src/hex.ts";
import { signNote } from "../src/note.ts";
import { emptyRoot, leafHash } from "../src/tree.ts";
import { noteSigner, parseVerifierKey } from "../src/verifier-key.ts";
import { readVectors } from "./vectors.ts";

const refused = (code: string) => expect.objectContaining({ name: "CheckpointError", code });
const signer = noteSigner("log.example/orders", new Uint8Array(32).fill(1));
const root = leafHash("a");
const head = { origin: "log.example/orders", size: 1, root };

interface Case {
  name: string;
  vkey: string;
  origin: string;
  note: string;
}

describe("vectors/note/checkpoints.json", () => {
  const { accept, reject } = readVectors<{
    accept: (Case & { size: number; root: string; extensions: string[] })[];
    reject: (Case & { error: string })[];
  }>("note/checkpoints.json");
  test.each(accept)("accept: $name", ({ vkey, origin, note, size, root, extensions }) => {
    const { root: found, ...rest } = openCheckpoint(note, parseVerifierKey(vkey), origin);
    expect({ ...rest, root: toHex(found) }).toEqual({ origin, size, root, extensions });
  });
  test.each(reject)("reject: $name ($error)", ({ vkey, origin, note, error }) => {
    expect(() => openCheckpoint(note, parseVerifierKey(vkey), origin)).toThrow(refused(error));
  });
});

test("the example of C2SP tlog-checkpoint is read and written", () => {
  const text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
  const checkpoint = parseCheckpoint(text);
  expect(checkpoint).toMatchObject({ origin: "example.com/behind-the-sofa", size: 20852163, extensions: [] });
  expect(formatCheckpoint(checkpoint)).toBe(text);
});

test("parseCheckpoint() reads what formatCheckpoint() wrote", () => {
  const line = fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => !text.includes("\n"));
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const size = fc.maxSafeNat().map((n) => Math.max(1, n));
  fc.assert(
    fc.property(line, size, hash, fc.array(line, { maxLength: 3 }), (origin, size, root, extensions) => {
      const checkpoint = { origin, size, root, extensions };
      expect(parseCheckpoint(formatCheckpoint(checkpoint))).toEqual(checkpoint);
    }),
  );
});

test("openCheckpoint() returns the head that signCheckpoint() signed", () => {
  const edge = new TreeEdge();
  for (let size = 0; size < 3; size++) {
    const signed = { origin: head.origin, size, root: edge.root() };
    const opened = openCheckpoint(signCheckpoint(signed, [signer]), signer.key, head.origin);
    expect(opened).toEqual({ ...signed, extensions: [] });
    edge.append(root);
  }
});

test("openCheckpoint() believes nothing before the signature", () => {
  const other = noteSigner("log.example/orders", new Uint8Array(32).fill(2));
  const note = signCheckpoint(head, [other]);
  expect(() => openCheckpoint(note, signer.key, head.origin)).toThrow(
    expect.objectContaining({ code: "no_known_signature" }),
  );
  const forged = signCheckpoint(head, [signer]).replace("\n1\n", "\n2\n");
  expect(() => openCheckpoint(forged, signer.key, head.origin)).toThrow(
    expect.objectContaining({ code: "bad_signature" }),
  );
  expect(() => openCheckpoint(signNote("not a checkpoint\n", [signer]), signer.key, head.origin)).toThrow(
    refused("malformed"),
  );
});

test.each([
  [{ origin: "" }, "malformed"],
  [{ origin: "a\nb" }, "malformed"],
  [{ extensions: [""] }, "malformed"],
  [{ extensions: ["a\nb"] }, "malformed"],
  [{ size: -1 }, "size"],
  [{ size: 1.5 }, "size"],
  [{ size: 2 ** 53 }, "size"],
  [{ root: new Uint8Array(31) }, "root"],
  [{ size: 0 }, "root"],
])("formatCheckpoint(%o) throws %s", (change, code) => {
  expect(() => formatCheckpoint({ ...head, ...change })).toThrow(refused(code));
});

test("a checkpoint of the empty tree has the empty tree's root", () => {
  expect(formatCheckpoint({ ...head, size: 0, root: emptyRoot() })).toContain("\n0\n");
});

test("an origin that no note can carry is refused when signing", () => {
  expect(() => signCheckpoint({ ...head, origin: "a\tb" }, [signer])).toThrow(
    expect.objectContaining({ code: "bad_text" }),
  );
});
