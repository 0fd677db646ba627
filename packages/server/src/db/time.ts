/** SQL for a column's time as RFC 3339 text: UTC, microseconds. */
export const TIME = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
