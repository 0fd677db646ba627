import { describe, expect, test } from "vitest";
import { ownCommand, shellWord } from "../src/shell.ts";
import { formatCsv, formatTable, visible } from "../src/table.ts";
import { shell } from "./cli.ts";

describe("formatTable()", () => {
  test("aligns columns and leaves no space at line ends", () => {
    expect(
      formatTable(
        ["a", "bcd"],
        [
          ["äöü", 1],
          [null, true],
        ],
      ),
    ).toBe("a    bcd\n---  ----\näöü  1\n     true");
  });
});

describe("formatCsv()", () => {
  test("tells NULL from the empty string, and quotes what has to be", () => {
    expect(
      formatCsv(
        ["x", "y"],
        [
          [null, ""],
          ['a"b', "c,d\n"],
        ],
      ),
    ).toBe('x,y\n,""\n"a""b","c,d\n"');
  });
});

describe("visible()", () => {
  test("escapes controls and characters that change the direction of text", () => {
    expect(visible("a\u001b[2Jb\r\n\u202e")).toBe("a\\u001b[2Jb\\u000d\\n\\u202e");
  });
});

describe("shellWord()", () => {
  test("survives a shell", async () => {
    for (const word of ["plain", "", 'it\'s $HOME `x` \\ "q"', "a\nb", "*"]) {
      expect((await shell(`printf %s ${shellWord(word)}`, "/")).stdout).toBe(word);
    }
  });
});

describe("ownCommand()", () => {
  test("ends with the command", () => {
    expect(ownCommand("verify")).toMatch(/verify$/);
  });
});
