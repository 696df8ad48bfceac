// `npm run test:superset` and `test:alerts`: not part of `npm test`, for what they fetch and build at first takes minutes (Superset is 825 MB).
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const root = fileURLToPath(new URL("../../../", import.meta.url))
const file = (name) => [`tools/deploy/src/${name}.acceptance.ts`]

export default defineConfig({
  test: {
    root,
    reporters: ["verbose"],
    testTimeout: 120_000,
    hookTimeout: 900_000,
    projects: [
      {
        extends: true,
        test: { name: "superset", include: file("Superset"), globalSetup: [`${root}libs/testing/src/ensureBuilt.mjs`, `${root}tools/stack/src/vitestStack.mjs`] }
      },
      { extends: true, test: { name: "alerts", include: file("Alerts") } }
    ]
  }
})
