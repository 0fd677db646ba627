/** Why the server does not start; the message ends with how to mend it. */
export class StartError extends Error {
  readonly code:
    | "data_dir"
    | "port_taken"
    | "cannot_listen"
    | "not_migrated"
    | "unsafe_database"
    | "clock_skew"
    | "origin_differs"
    | "credentials_unreadable"
    | "log_key"
    | "sign_lock"
    | "tls_unusable";
  constructor(code: StartError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StartError";
    this.code = code;
  }
}
