/** Exit codes of every check, for scripts: never to be confused with each other. */
export const EXIT = { good: 0, tampered: 1, notChecked: 2 } as const;

/** By the verdict on a file. */
export const EXIT_CODES = { good: EXIT.good, tampered: EXIT.tampered, unchecked: EXIT.notChecked } as const;
