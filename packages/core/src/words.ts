/**
 * Words: how text is taken apart to be searched. Indexing, searching and checking do it in this one way, whatever the locale of
 * the database is.
 */

/**
 * Runs of letters, digits and their marks; of scripts that are written without spaces each character is a word of its own, so that
 * any substring is a phrase.
 */
const WORD =
  /[[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{scx=Thai}\p{scx=Laoo}\p{scx=Khmr}\p{scx=Mymr}]&&[\p{L}\p{N}\p{M}]]|[[\p{L}\p{N}\p{M}]--[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{scx=Thai}\p{scx=Laoo}\p{scx=Khmr}\p{scx=Mymr}]]+/gv;
const ASCII_WORD = /[a-z0-9]+/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
const ASCII = /^[\x00-\x7f]*$/;

/** The words of a text in their order: in lower case and compatibility form (NFKC), nothing between them kept. */
export function wordsOf(text: string): readonly string[] {
  if (ASCII.test(text)) return text.toLowerCase().match(ASCII_WORD) ?? [];
  return text.normalize("NFKC").toLowerCase().normalize("NFKC").match(WORD) ?? [];
}
