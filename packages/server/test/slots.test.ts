import { expect, test } from "vitest";
import { Slots } from "../src/stream/slots.ts";

/** Work that is under way until it is told to end, in the order in which it began. */
function workbench(count: number) {
  const slots = new Slots(count);
  const began: string[] = [];
  const ends = new Map<string, () => void>();
  return {
    began,
    ask(name: string): void {
      void slots.take(name[0]!, () => {
        began.push(name);
        return new Promise<void>((resolve) => ends.set(name, resolve));
      });
    },
    async end(name: string): Promise<void> {
      ends.get(name)!();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("take() serves one after another, whoever has asked how often", async () => {
  const { began, ask, end } = workbench(2);
  for (const name of ["a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1"]) ask(name);
  expect(began).toEqual(["a1", "a2"]); // nobody else was there
  await end("a1");
  await end("a2"); // b has a slot by now, c and a none
  expect(began.slice(2)).toEqual(["b1", "c1"]);
  await end("b1");
  await end("c1");
  expect(began.slice(4)).toEqual(["a3", "b2"]);
  await end("a3");
  await end("b2");
  expect(began.slice(6)).toEqual(["a4", "a5"]);
});

test("take() gives nobody a second slot while another waits without one", async () => {
  const { began, ask, end } = workbench(2);
  for (const name of ["a1", "b1", "a2", "b2", "a3"]) ask(name);
  await end("b1");
  expect(began).toEqual(["a1", "b1", "b2"]);
});

test("take() frees the slot of work that fails", async () => {
  const slots = new Slots(1);
  await expect(slots.take("a", () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
  expect(await slots.take("b", async () => "done")).toBe("done");
});
