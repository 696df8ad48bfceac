import { defineConfig } from "vitest/config"

// Two workers for two cores. Tests against real servers wait on conditions, so the limit is a safety net, not a measure.
export default defineConfig({
  test: {
    include: ["apps/*/src/**/*.test.{ts,tsx}", "libs/**/src/**/*.test.ts", "tools/*/src/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/dist/**"],
    globalSetup: ["libs/testing/src/ensureBuilt.mjs"],
    pool: "forks",
    poolOptions: { forks: { maxForks: 2, minForks: 1 } },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default"]
  }
})
