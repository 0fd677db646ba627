/**
 * The two kinds of writing that are compared under different circumstances.
 */
export interface Write {
  readonly kind: "single" | "bulk";
  readonly connections: number;
  /** Events a round. */
  readonly count: number;
  /** Events before the first round. */
  readonly warmUp: number;
  readonly what: string;
}

export const WRITES: readonly Write[] = [
  { kind: "bulk", connections: 8, count: 20_000, warmUp: 30_000, what: "bulk, 8 connections" },
  { kind: "single", connections: 256, count: 15_000, warmUp: 15_000, what: "single, 256 connections" },
];
