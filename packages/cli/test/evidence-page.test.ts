/** The page that carries evidence, in a real browser that has no network. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { canonicalize } from "@tallystick/core/canonical";
import { Masking } from "@tallystick/core/masking";
import { openOffline, startBrowser } from "@tallystick/core/testing/browser";
import { SmallLog, testWitness, variedLog } from "@tallystick/core/testing/evidence";
import { formatVerifierKey, noteSigner } from "@tallystick/core/verifier-key";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PageEvidence, pageOf, readPageFrame } from "../src/evidence-page.ts";

/** Where pictures of the pages go, to be looked at; none are made unless it is set. */
const PICTURES = process.env.PICTURES;

let browser: Browser;
let folder: string;
let files = 0;

beforeAll(async () => {
  browser = await startBrowser();
  folder = await mkdtemp(join(tmpdir(), "tallystick-page-"));
});
afterAll(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Opens a page with this evidence, from a file and with the network off, and waits until it has checked itself. */
async function open(evidence: string, picture?: string) {
  const file = join(folder, `${files++}.evidence.html`);
  const page = pageOf(await readPageFrame(), Readable.from([Buffer.from(evidence)]));
  await writeFile(file, Readable.from(page));
  const offline = await openOffline(browser, pathToFileURL(file).href);
  await checked(offline.page);
  if (picture !== undefined) await take(offline.page, picture);
  return offline;
}

async function checked(page: Page): Promise<void> {
  await page.waitForSelector("#verdict:not(.pending)");
}

async function take(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

const verdictOf = (page: Page) => page.getAttribute("#verdict", "class");
const textsOf = (page: Page, selector: string) => page.locator(selector).allTextContents();

/** Changes an entry in the middle of a file, as someone with an editor does. */
function tampered(file: string): string {
  return file.replace("order.create", "order.delete");
}

test("PageEvidence gives back what pageOf() was given, cut anywhere into pieces", async () => {
  const frame = await readPageFrame();
  const evidence = Buffer.from(variedLog(4_000).evidence());
  for (const [cut, read] of [
    [70_001, 1_000_003],
    [1_500_000, 65_536],
    [50_000, 997],
  ] as const) {
    const page = await buffer(pageOf(frame, Readable.from(pieces(evidence, cut))));
    expect(page.toString("latin1").split("<script type=").length).toBeGreaterThan(3);
    const found = new PageEvidence(frame);
    expect((await buffer(found.read(Readable.from(pieces(page, read))))).equals(evidence)).toBe(true);
    expect(found.own).toBe(true);
  }
});

test("pageOf() takes no evidence that could end the element it stands in", async () => {
  const page = pageOf(await readPageFrame(), Readable.from([Buffer.from("{}\n"), Buffer.from("</script>\n")]));
  await expect(buffer(page)).rejects.toThrow(SyntaxError);
});

function* pieces(bytes: Buffer, size: number): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

describe("the page", () => {
  test("of a good file says what was proved, what was not, and shows each entry", async () => {
    const log = variedLog(30);
    const { page, requests, errors } = await open(log.evidence(), "good");
    expect(await verdictOf(page)).toBe("verdict good by-file");
    expect(await page.textContent("#log")).toBe("example.com/acme");
    expect(await page.title()).toBe("Everything fits, by the file's own key: example.com/acme");
    expect((await textsOf(page, "#proved li")).join("\n")).toContain(
      "Positions 0 to 29 are here without a gap, which is the whole log",
    );
    expect((await textsOf(page, "#not-proved li")).join("\n")).toContain("Whose key it is");
    expect(await page.locator("#attacks-list tr").count()).toBe(8);
    expect(await page.locator(".entry").count()).toBe(30);
    const login = page.locator("#entry-1");
    expect(await login.locator(".who").textContent()).toBe("Zoë Ångström (u-1)");
    expect(await login.locator(".what").textContent()).toBe("user.login");
    expect(await login.locator(".tags").textContent()).toBe("failure");
    await login.locator("summary").press("Enter");
    expect(await login.locator(".fields").textContent()).toContain("192.0.2.7");
    expect(await login.locator("pre").textContent()).toBe(log.leaves[1]!.leaf);
    await take(page, "good-open");
    expect(requests).toEqual([]);
    expect(errors).toEqual([]);
  });

  test("says whose key it relied on: the file's, until the reader gives one that he trusts", async () => {
    const log = variedLog(5);
    const witness = testWitness();
    const { page } = await open(log.evidence({ witnesses: [{ by: witness, time: 1_770_000_000 }] }));
    const give = async (key: string, witnesses = "") => {
      await page.getByLabel("The log’s key, from a source that you trust").fill(key);
      await page.getByLabel("Keys of witnesses that you trust").fill(witnesses);
      await page.getByRole("button", { name: "Check with these keys" }).click();
      return page.textContent("#key-answer");
    };
    expect(await page.textContent("#file-key")).toBe(log.verifierKey);
    expect(await give("rubbish")).toMatch(/^Not checked: a verifier key is/);
    expect(await give(log.verifierKey, formatVerifierKey(witness.key))).toBe("It is the same key as the file’s.");
    await page.waitForSelector("#verdict.good:not(.by-file)");
    expect((await textsOf(page, "#proved li")).join("\n")).toContain(
      "witness.example/w, whose key you gave, says that it saw this state of the log at 2026-02-02T02:40:00Z",
    );
    expect(await textsOf(page, "#attacks-list .answer")).toContain("rules it out");
    await take(page, "good-trusted");
    const other = formatVerifierKey(noteSigner("example.com/acme", new Uint8Array(32)).key);
    expect(await give(other)).toBe("It is not the key that the file names.");
    await page.waitForSelector("#verdict.tampered");
    expect(await page.textContent("#findings-list")).toContain("not signed by the key that was given");
  });

  test("of a tampered file names the entry and marks it", async () => {
    const { page, errors } = await open(tampered(variedLog(12).evidence()), "tampered");
    expect(await verdictOf(page)).toBe("verdict tampered");
    expect(await page.locator(".entry.bad").count()).toBe(1);
    expect(await page.locator("#entry-0.bad .finding").textContent()).toContain("not those that were recorded");
    expect(await page.locator("#findings-list a").first().textContent()).toBe("Position 0");
    expect(await page.isHidden("#attacks")).toBe(true);
    expect(errors).toEqual([]);
  });

  test("of a partly erased file proves the rest, and shows what is erased as erased", async () => {
    const log = variedLog(12);
    for (const pointer of ["/event/actor/name", "/event/actor/email", "/event/context/ip"]) log.erase(5, pointer);
    log.erase(9, "/event/actor/name");
    const { page, errors } = await open(log.evidence(), "erased");
    expect(await verdictOf(page)).toBe("verdict good by-file");
    expect(await page.locator("#entry-5 .who").textContent()).toBe("erased (u-5)");
    expect(await page.locator("#entry-5 .tag.erased").textContent()).toBe("3 values erased");
    await page.locator("#entry-5 summary").click();
    await page.locator("#entry-5 .fields").waitFor();
    expect(await page.locator("#entry-5 .fields .erased").count()).toBe(3);
    expect((await textsOf(page, "#not-proved li")).join("\n")).toContain("4 personal values are not here");
    expect(errors).toEqual([]);
  });

  test("shows what was masked as masked, with its rule", async () => {
    const masking = new Masking();
    const event = {
      action: "user.update",
      actor: { id: "u" },
      reason: "token=x",
      metadata: { password: "x", plan: "team" },
    };
    const { page, errors } = await open(new SmallLog([masking.mask(event)]).evidence());
    expect(await verdictOf(page)).toBe("verdict good by-file");
    await page.locator("#entry-0 summary").click();
    await page.locator("#entry-0 .fields").waitFor();
    expect(await textsOf(page, "#entry-0 .fields .erased")).toEqual(["masked (password)", "masked (token)"]);
    expect(errors).toEqual([]);
  });

  test("of a file that was cut off does not say that it is good", async () => {
    const whole = variedLog(12).evidence();
    const { page } = await open(whole.slice(0, whole.length / 2), "cut");
    expect(await verdictOf(page)).toBe("verdict unchecked");
    expect(await page.textContent("#summary")).toContain("the file ends before its manifest");
  });

  test("shows whatever an event holds as text, runs none of it, and asks for nothing", async () => {
    const attack = `</script><script>document.title="owned"</script><img src=x onerror="document.title='owned'"><!--\u2028\u2029`;
    const log = new SmallLog([
      {
        action: "x.y",
        actor: { id: attack, name: attack, type: "user", attributes: { [attack]: attack } },
        resource: { type: attack, id: "\u202Egnp.exe", name: "javascript:alert(1)" },
        metadata: { __html: attack, url: "https://attacker.example/", $committed: "not alone", more: 1 },
      },
    ]);
    const { page, requests, errors } = await open(log.evidence(), "hostile");
    expect(await verdictOf(page)).toBe("verdict good by-file");
    await page.locator("#entry-0 summary").click();
    expect(await page.title()).not.toContain("owned");
    expect(await page.locator("img, iframe, #entries a, #entries script").count()).toBe(0);
    expect(await page.locator("#entry-0 .who").textContent()).toContain("</script><script>");
    expect(await page.locator("#entry-0 .what").textContent()).toContain("\\u202egnp.exe");
    expect(await page.locator("#entry-0 pre").textContent()).toContain("</script>");
    expect(requests).toEqual([]);
    expect(errors).toEqual([]);
  });

  test("shows whatever stands where an event should be, and goes on", async () => {
    const log = variedLog(2);
    const members = ["actor", "resource", "context", "outcome", "severity", "related", "metadata", "occurred_at"];
    const actors = [{ on_behalf_of: null }, { name: {} }, { on_behalf_of: { id: ["x"] } }];
    for (const value of [null, 5, "x", [], {}, [[]], { id: null }, ...actors]) {
      for (const member of members) {
        const leaf = JSON.parse(log.leaves[1]!.leaf) as { seq: number; event: Record<string, unknown> };
        leaf.seq = log.leaves.length;
        leaf.event[member] = value;
        log.push(canonicalize(leaf as never));
      }
    }
    const { page, errors } = await open(log.evidence());
    await page.getByRole("button", { name: "Show all" }).click();
    expect(await page.locator(".entry").count()).toBe(log.leaves.length);
    expect(await page.locator(".entry .detail").count()).toBeGreaterThan(70); // what does not fit is open
    expect(errors).toEqual([]);
  });

  test("may not reach a network, whatever its code would want", async () => {
    const { page, requests } = await open(variedLog(1).evidence());
    const outcome = await page.evaluate(`fetch("https://example.com/").then(String, String)`);
    expect(outcome).toContain("Failed to fetch");
    const injected = await page.evaluate(`
      const script = document.createElement("script");
      script.textContent = "document.title = 'owned'";
      document.body.append(script);
      document.title;
    `);
    expect(injected).not.toBe("owned");
    expect(requests).toEqual([]);
  });

  test("of thousands of entries checks all and shows some, and more when asked to", async () => {
    const file = variedLog(3_000).evidence();
    // The last one of action order.create.
    const at = file.lastIndexOf("order.create");
    const { page } = await open(`${file.slice(0, at)}order.delete${file.slice(at + 12)}`);
    expect(await verdictOf(page)).toBe("verdict tampered");
    expect(await page.locator(".entry").count()).toBe(50);
    await page.getByRole("button", { name: "Show 200 more" }).click();
    expect(await page.locator(".entry").count()).toBe(250);
    await page.locator("#findings-list a").first().click();
    expect(await page.locator(".entry.bad").isVisible()).toBe(true);
  });

  test("reads well in the dark, on a telephone and on paper", async () => {
    const { page } = await open(variedLog(6).evidence());
    await page.emulateMedia({ colorScheme: "dark" });
    await take(page, "dark");
    await page.setViewportSize({ width: 390, height: 800 });
    await take(page, "narrow");
    const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    expect(overflow).toBe(0);
    await page.emulateMedia({ media: "print" });
    expect(await page.isHidden("form")).toBe(true);
  });
});
