import { generateKeyPairSync } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as node from "../src/ed25519.node.ts";
import { Ed25519Error } from "../src/ed25519.rules.ts";
import * as portable from "../src/ed25519.ts";
import { fromHex, toHex } from "../src/hex.ts";

const implementations: [string, typeof portable][] = [
  ["ed25519.node.ts", node],
  ["ed25519.ts", portable],
];

// RFC 8032 section 7.1, tests 1 and 3.
const known = [
  {
    seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    publicKey: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    message: "",
    signature:
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  },
  {
    seed: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    publicKey: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    message: "af82",
    signature:
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  },
];

describe.each(implementations)("%s", (_, { signer, verify }) => {
  test.each(known)("signs and verifies RFC 8032's message '$message'", ({ seed, publicKey, message, signature }) => {
    const key = signer(fromHex(seed));
    expect(toHex(key.publicKey)).toBe(publicKey);
    expect(toHex(key.sign(fromHex(message)))).toBe(signature);
    expect(toHex(verify(fromHex(message), fromHex(signature), key.publicKey))).toBe(message);
  });

  test("signer() keeps its own copy of the seed", () => {
    const seed = new Uint8Array(32).fill(9);
    const key = signer(seed);
    const before = toHex(key.sign(seed.slice()));
    const message = seed.slice();
    seed.fill(0);
    expect(toHex(key.sign(message))).toBe(before);
  });

  test("verify() remembers no wrong key across many", () => {
    const message = new Uint8Array([1]);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 300; i += round === 0 ? 1 : 50) {
        const key = node.signer(new Uint8Array(32).fill(i % 256, 0, 31).fill(i >> 8, 31));
        verify(message, key.sign(message), key.publicKey);
      }
    }
  });

  test("wrong lengths are refused by name", () => {
    const bytes = new Uint8Array(64);
    expect(() => signer(bytes)).toThrow(expect.objectContaining({ code: "bad_key" }));
    expect(() => verify(bytes, bytes, bytes)).toThrow(expect.objectContaining({ code: "bad_key" }));
    const { publicKey } = signer(bytes.subarray(32));
    expect(() => verify(bytes, bytes.subarray(1), publicKey)).toThrow(
      expect.objectContaining({ code: "bad_signature" }),
    );
  });
});

function outcome(verify: typeof node.verify, message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array) {
  try {
    verify(message, signature, publicKey);
    return "accepts";
  } catch (error) {
    expect(error).toBeInstanceOf(Ed25519Error);
    return "refuses";
  }
}

function agreedOutcome(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array) {
  const found = outcome(node.verify, message, signature, publicKey);
  expect(outcome(portable.verify, message, signature, publicKey)).toBe(found);
  return found;
}

test("both implementations make the same signatures, and refuse any changed bit", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.uint8Array({ minLength: 1, maxLength: 80 }),
      fc.nat(),
      fc.constantFrom("message", "signature", "publicKey"),
      (seed, message, bit, part) => {
        const { publicKey, sign } = node.signer(seed);
        expect(portable.signer(seed).publicKey).toEqual(publicKey);
        expect(portable.signer(seed).sign(message)).toEqual(sign(message));
        const parts = { message, signature: sign(message), publicKey };
        expect(agreedOutcome(parts.message, parts.signature, parts.publicKey)).toBe("accepts");
        const changed = parts[part].slice();
        const position = bit % (8 * changed.length);
        changed[position >> 3]! ^= 1 << (position & 7);
        parts[part] = changed;
        expect(agreedOutcome(parts.message, parts.signature, parts.publicKey)).toBe("refuses");
      },
    ),
    { numRuns: 60 },
  );
});

test("Node's own keys and signatures are what signer() and verify() use", () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const seed = privateKey.export({ format: "der", type: "pkcs8" }).subarray(16);
  const key = portable.signer(seed);
  node.verify(seed, key.sign(seed), key.publicKey);
});

describe("signatures made to divide verifiers", () => {
  const { Point } = ed25519;
  const order = Point.Fn.ORDER;
  const message = new TextEncoder().encode("the same answer everywhere");
  const scalar = (n: bigint) => Uint8Array.from({ length: 32 }, (_, i) => Number((n >> BigInt(8 * i)) & 255n));
  const number = (bytes: Uint8Array) => bytes.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);
  const challenge = (r: Uint8Array, a: Uint8Array) => number(sha512(Uint8Array.from([...r, ...a, ...message]))) % order;
  // The eight points of small order, as multiples of one of order 8.
  const torsion8 = Point.fromHex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
  const torsion = Array.from({ length: 8 }, (_, i) => torsion8.multiplyUnsafe(BigInt(i)));
  const secret = 123456789n;
  const nonce = 987654321n;

  test("points of small order added to the key or the nonce", () => {
    const seen = new Set<string>();
    for (const inKey of torsion) {
      for (const inNonce of torsion) {
        const a = Point.BASE.multiply(secret).add(inKey).toBytes();
        const r = Point.BASE.multiply(nonce).add(inNonce).toBytes();
        const s = (nonce + challenge(r, a) * secret) % order;
        seen.add(agreedOutcome(message, Uint8Array.from([...r, ...scalar(s)]), a));
      }
    }
    expect([...seen].sort()).toEqual(["accepts", "refuses"]);
  });

  test("keys and nonces of small order, and their non-canonical spellings", () => {
    const p = 2n ** 255n - 19n;
    const sign = 2n ** 255n;
    const spellings = [
      ...torsion.map((point) => point.toBytes()),
      ...[0n, 1n, p - 1n, p, p + 1n].flatMap((y) => [scalar(y), scalar(y + sign)]),
      scalar(2n ** 256n - 1n),
    ];
    for (const a of spellings) {
      for (const r of spellings) {
        for (const s of [0n, 1n, order]) {
          expect(agreedOutcome(message, Uint8Array.from([...r, ...scalar(s)]), a)).toBe("refuses");
        }
      }
    }
  });

  test("a scalar beyond the group's order", () => {
    const { publicKey, sign } = node.signer(new Uint8Array(32).fill(5));
    const signature = sign(message);
    const s = number(signature.subarray(32));
    for (const larger of [s + order, s + 8n * order]) {
      const respelled = Uint8Array.from([...signature.subarray(0, 32), ...scalar(larger)]);
      expect(agreedOutcome(message, respelled, publicKey)).toBe("refuses");
    }
  });

  test("a key that is no point of the curve", () => {
    expect(agreedOutcome(message, new Uint8Array(64), scalar(2n))).toBe("refuses");
  });
});
