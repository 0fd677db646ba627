/** Shorter names are near to too much that others set (HOST and HOME). */
const MIN_LENGTH = 7;

/** The known name that `name` was most likely meant to be, or undefined. Known names themselves are no typos. */
export function meantName(name: string, known: readonly string[]): string | undefined {
  if (name.length < MIN_LENGTH || known.includes(name)) return undefined;
  return known.find((candidate) => {
    if (candidate.length < MIN_LENGTH) return false;
    // Case and separators first: databaseUrl, DATABASE-URL.
    if (letters(candidate) === letters(name)) return true;
    return distance(name, candidate) <= (candidate.length < 10 ? 1 : 2);
  });
}

function letters(name: string): string {
  return name.toUpperCase().replace(/[^A-Z0-9]/g, "");
}

/** Edit distance in which two neighbours exchanged count as one (DATABASE_ULR). */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(at(rows, i - 1, j) + 1, row[j - 1]! + 1, at(rows, i - 1, j - 1) + same);
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, at(rows, i - 2, j - 2) + 1);
      row.push(least);
    }
    rows.push(row);
  }
  return at(rows, a.length, b.length);
}

function at(rows: readonly number[][], i: number, j: number): number {
  return rows[i]?.[j] ?? Number.POSITIVE_INFINITY;
}
