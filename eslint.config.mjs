import nx from "@nx/eslint-plugin"
import tseslint from "typescript-eslint"

// Imports go down: a project of tier N imports tiers below N, and its own. Pure projects (tiers 0 and 1 without an adapter) import no I/O.
const tiers = [0, 1, 2, 3, 4, 5, 6, 7]
const depConstraints = [
  ...tiers.map((tier) => ({
    sourceTag: `tier:${tier}`,
    onlyDependOnLibsWithTags: [...tiers.filter((below) => below < tier).map((below) => `tier:${below}`)]
  })),
  { sourceTag: "tier:test", onlyDependOnLibsWithTags: ["*"] },
  { sourceTag: "tier:app", onlyDependOnLibsWithTags: ["*"] }
]

/** SDKs and the files that may name them: one adapter each. */
const sdk = (name, files) => ({ name, files })
const sdks = [
  sdk("@duckdb/node-api", ["libs/query-engine/src/DuckDb*.ts"]),
  sdk("@aws-sdk/client-s3", ["libs/object-store/src/S3*.ts"]),
  sdk("pg", ["libs/postgres/src/**"]),
  sdk("kafkajs", ["libs/event-log/src/Kafka*.ts"]),
  sdk("avsc", ["libs/iceberg/src/**"]),
  sdk("lossless-json", ["libs/iceberg/src/**"]),
  sdk("cli-table3", ["libs/commands/src/Output.ts"])
]

const restricted = (which) =>
  sdks.filter(which).map(({ files, name }) => ({ name, message: `Only ${files.join(", ")} may import it.` }))

export default tseslint.config(
  { ignores: ["**/dist/**", "**/node_modules/**", ".nx/**"] },
  {
    files: ["**/*.{ts,tsx,mjs}"],
    languageOptions: { parser: tseslint.parser },
    plugins: { "@nx": nx, "@typescript-eslint": tseslint.plugin },
    rules: {
      "max-len": ["error", { code: 160, ignoreStrings: true, ignoreTemplateLiterals: true, ignoreRegExpLiterals: true }],
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
      "no-throw-literal": "error",
      "no-fallthrough": "off",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports", prefer: "type-imports" }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", ignoreRestSiblings: true }],
      "@typescript-eslint/no-non-null-assertion": "off"
    }
  },
  {
    files: ["apps/**/*.{ts,tsx}", "libs/**/*.ts", "tools/*/src/**/*.ts"],
    ignores: ["**/*.test.ts", "**/*Contract.ts"],
    rules: {
      "@nx/enforce-module-boundaries": ["error", { enforceBuildableLibDependency: false, allow: [], depConstraints }]
    }
  },
  {
    // Time, randomness, environment and console come from Effect; main files, tools and tests are the edge.
    files: ["libs/**/src/**/*.ts"],
    ignores: ["**/*.test.ts", "**/*Contract.ts", "libs/testing/**"],
    rules: {
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", message: "Use Clock." },
        { object: "Math", property: "random", message: "Use Random." },
        { object: "process", property: "env", message: "Use Config." }
      ],
      "no-restricted-globals": ["error", "console", "setTimeout", "setInterval", "fetch"]
    }
  },
  {
    files: ["apps/**/*.{ts,tsx}", "libs/**/*.ts"],
    ignores: ["**/*.test.ts", "**/*Contract.ts", "libs/testing/**"],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { paths: restricted(() => true) }] }
  },
  // A later entry replaces an earlier one for its files, so each adapter gets the list without its own.
  ...sdks.map(({ files }) => ({
    files,
    ignores: ["**/*.test.ts", "**/*Contract.ts"],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { paths: restricted((other) => other.files.join() !== files.join()) }] }
  }))
)
