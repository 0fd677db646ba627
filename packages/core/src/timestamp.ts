const RFC_3339 =
  /^(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))$/;

const EXAMPLE = "2026-01-02T03:04:05.123456Z";

/** Why a text is no time that an entry can hold; the message says what would be. */
export class TimestampError extends Error {
  override readonly name = "TimestampError";
}

/**
 * Brings a time of RFC 3339, section 5.6, to the one form entries hold: UTC, `YYYY-MM-DDTHH:MM:SS.ffffffZ`. More
 * than six digits of fraction are cut, never rounded: a time is not moved into the future. `-00:00` counts as UTC.
 *
 * @throws TimestampError when the text is not RFC 3339, names a day that its month does not have or a leap
 * second, or lies outside the years 0001 to 9999 once in UTC.
 */
export function normalizeTimestamp(text: string): string {
  const match = RFC_3339.exec(text);
  if (match === null) throw new TimestampError(`must be a time of RFC 3339 with its zone, like ${EXAMPLE}`);
  const [, year, month, day, hour, minute, second, fraction = "", sign, offsetHour, offsetMinute] = match;
  if (second === "60")
    throw new TimestampError("is a leap second, which is not kept: send second 59 or the next minute");
  if (Number(day) < 1 || Number(day) > daysIn(Number(year), Number(month))) {
    throw new TimestampError(`is a day that does not exist: ${year}-${month}-${day}`);
  }
  const digits = fraction.length >= 6 ? fraction.slice(0, 6) : fraction.padEnd(6, "0");
  if (sign === undefined) {
    if (year === "0000") throw outsideYears();
    return `${year}-${month}-${day}T${hour}:${minute}:${second}.${digits}Z`;
  }
  const offset = (Number(offsetHour) * 60 + Number(offsetMinute)) * (sign === "-" ? -1 : 1);
  const time = new Date(0);
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  time.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  time.setUTCHours(Number(hour), Number(minute) - offset, Number(second));
  if (time.getUTCFullYear() < 1 || time.getUTCFullYear() > 9999) throw outsideYears();
  return `${time.toISOString().slice(0, 19)}.${digits}Z`;
}

function outsideYears(): TimestampError {
  return new TimestampError("must lie in the years 0001 to 9999, in UTC");
}

/** Days of a month, 1 to 12, in the proleptic Gregorian calendar; 0 where there is no such month. */
function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return [31, 0, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}
