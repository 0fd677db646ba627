/**
 * Rounds: what is compared is measured in turns, so that a drift of the machine hits all sides alike, and medians are taken.
 */

/** Runs the sides in turns, `rounds` times; the median of each side's figures, in their order. */
export async function alternate(
  rounds: number,
  sides: readonly ((round: number) => Promise<number>)[],
): Promise<number[]> {
  const figures: number[][] = sides.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [side, measure] of sides.entries()) figures[side]!.push(await measure(round));
  }
  return figures.map(median);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
