/** Payment card numbers (ISO/IEC 7812): found by their form, first digit and check digit. */

/** In one piece of 13 to 19 digits, or in groups as cards have them; 2 to 6 begin all cards of the travel and banking industries. */
const CANDIDATE =
  /(?<![\p{L}\p{N}])(?:[2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3\d{3}([ -])\d{6}\2\d{4,5})(?![\p{L}\p{N}])/gu;

/** Whether a card number stands in a text. One in ten of other numbers of that form passes the check digit too. */
export function holdsCardNumber(text: string): boolean {
  if (text.length < 13) return false;
  for (const [candidate] of text.matchAll(CANDIDATE)) {
    const digits = candidate.replaceAll(/[ -]/g, "");
    if (isLuhn(digits)) return true;
    // Of 16 digits in groups, with three more behind them that belong to something else.
    if (digits.length === 19 && candidate !== digits && isLuhn(digits.slice(0, 16))) return true;
  }
  return false;
}

/** Whether the last digit is the check digit of those before it (ISO/IEC 7812-1, annex B). */
function isLuhn(digits: string): boolean {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i]);
    const weighted = i % 2 === 0 ? digit : digit * 2;
    sum += weighted > 9 ? weighted - 9 : weighted;
  }
  return sum % 10 === 0;
}
