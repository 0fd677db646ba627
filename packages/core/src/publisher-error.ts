export type PublisherErrorCode =
  /** The leaf's `publisher` is not of the form that the specification gives it. */
  | "bad_publisher"
  | "unknown_key"
  | "other_service"
  | "other_algorithm"
  | "not_yet_valid"
  | "expired"
  | "revoked"
  | "bad_signature"
  /** The signed text does not make an event. */
  | "bad_payload"
  /** The entry's event is not what the signed text makes. */
  | "other_event"
  /** An entry that tells of a change to a key does not say what it has to. */
  | "bad_history";

/** Why a publisher's signature, or the history of its keys, does not hold. */
export class PublisherError extends Error {
  override readonly name = "PublisherError";
  readonly code: PublisherErrorCode;
  /** Of the entry that is wrong, where it is not the one that was asked about. */
  readonly seq: number | undefined;
  /** The member of the leaf that is wrong: a JSON pointer without its first `/`. */
  readonly field: string | undefined;
  readonly stored: string | undefined;
  readonly expected: string | undefined;

  constructor(
    code: PublisherErrorCode,
    message: string,
    options: ErrorOptions & { seq?: number; field?: string; stored?: string; expected?: string } = {},
  ) {
    super(message, options);
    this.code = code;
    this.seq = options.seq;
    this.field = options.field;
    this.stored = options.stored;
    this.expected = options.expected;
  }
}
