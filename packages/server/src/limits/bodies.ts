/**
 * Bodies, of requests and of answers: how many bytes of them may be in memory at a time, of all tenants and of one.
 */

/** Of what may be in memory a tenant has at most this part: the others go on. */
const TENANT_SHARE = 0.5;

/** The bytes of one request, or of one answer. */
export interface BodyCount {
  /** @returns whether there is room for them; where there is not, they are counted none the less. */
  add(bytes: number): boolean;
  /** They are in memory no more; a second call does nothing. */
  release(): void;
}

export class Bodies {
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #byTenant = new Map<string, number>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes in memory now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts the bytes of a request as they arrive: what is announced and does not come takes no room. Of an answer, all at once. */
  count(tenantId: string): BodyCount {
    let bytes = 0;
    let released = false;
    return {
      add: (more) => {
        if (released) return false;
        bytes += more;
        this.#bytes += more;
        const ofTenant = (this.#byTenant.get(tenantId) ?? 0) + more;
        this.#byTenant.set(tenantId, ofTenant);
        return this.#bytes <= this.#maxBytes && ofTenant <= this.#maxBytes * TENANT_SHARE;
      },
      release: () => {
        if (released) return;
        released = true;
        this.#bytes -= bytes;
        const left = (this.#byTenant.get(tenantId) ?? 0) - bytes;
        if (left > 0) this.#byTenant.set(tenantId, left);
        else this.#byTenant.delete(tenantId);
      },
    };
  }
}
