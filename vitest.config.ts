import { defineConfig } from "vitest/config";

export default defineConfig({
  ssr: { resolve: { conditions: ["source"] } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts"],
    globalSetup: ["packages/server/src/testing/global-setup.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: "forks",
    execArgv: ["--conditions=source"],
    maxWorkers: 2,
    coverage: { include: ["packages/*/src/**/*.ts"], reporter: ["text", "html"] },
  },
});
