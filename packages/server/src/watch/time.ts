/** A time as entries have it, RFC 3339 UTC with six digits of fraction. @param ms since the Unix epoch. */
export function entryTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}
