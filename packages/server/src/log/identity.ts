/** One log: what it takes to read it. */
export interface LogIdentity {
  readonly logId: number;
  readonly tenantId: string;
  readonly name: string;
}
