import { defineConfig } from "vitest/config"

const tests = ["apps/*/src/**/*.test.{ts,tsx}", "libs/**/src/**/*.test.ts", "tools/*/src/**/*.test.ts"]
const stackTests = ["apps/*/src/**/*.stack.test.ts", "libs/**/src/**/*.stack.test.ts", "tools/*/src/**/*.stack.test.ts"]
const never = ["**/node_modules/**", "**/dist/**"]
const ensureBuilt = "libs/testing/src/ensureBuilt.mjs"

// Two workers for two cores. Tests against real servers wait on conditions, so the limit is a safety net, not a measure.
export default defineConfig({
  test: {
    pool: "forks",
    poolOptions: { forks: { maxForks: 2, minForks: 1 } },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default"],
    // A project's global setup runs where one of its files does: no Kafka starts for a unit test.
    projects: [
      { extends: true, test: { name: "unit", include: tests, exclude: [...never, ...stackTests], globalSetup: [ensureBuilt] } },
      {
        extends: true,
        test: {
          name: "stack",
          include: stackTests,
          exclude: never,
          globalSetup: [ensureBuilt, "tools/stack/src/vitestStack.mjs"],
          env: { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" }
        }
      }
    ]
  }
})
