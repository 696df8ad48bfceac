// `npm run test:superset` and `test:alerts`: not part of `npm test`, for what they fetch and build at first takes minutes (Superset is 825 MB).
import { defineConfig } from "vitest/config"

const file = (name) => [`tools/deploy/src/${name}.acceptance.ts`]

export default defineConfig({
  test: {
    root: new URL("../../..", import.meta.url).pathname,
    reporters: ["verbose"],
    testTimeout: 120_000,
    hookTimeout: 900_000,
    projects: [
      {
        extends: true,
        test: { name: "superset", include: file("Superset"), globalSetup: ["libs/testing/src/ensureBuilt.mjs", "tools/stack/src/vitestStack.mjs"] }
      },
      { extends: true, test: { name: "alerts", include: file("Alerts") } }
    ]
  }
})
