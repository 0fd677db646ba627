/** Why the witness does not start; the message ends with how to mend it. */
export class WitnessError extends Error {
  override readonly name = "WitnessError";
  readonly code: "key" | "state" | "logs" | "name" | "listen";

  constructor(code: WitnessError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
