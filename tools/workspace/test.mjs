// `npm test`: all checks and all tests. The last line counts the tests. In CI a skipped test is a failure.
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { staticChecks, step } from "./steps.mjs"

const folder = mkdtempSync(join(tmpdir(), "voltlake-tests-"))
const report = join(folder, "report.json")
const sound = await staticChecks()
await step(
  "tests",
  "vitest/vitest.mjs",
  ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...process.argv.slice(2)],
  { live: true }
)
const counts = (() => {
  try {
    const { numFailedTests, numPassedTests, numPendingTests, numTodoTests, success, testResults } = JSON.parse(readFileSync(report, "utf8"))
    // A file that could not even be loaded has no tests to fail.
    const unloaded = testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length
    return { passed: numPassedTests, failed: numFailedTests + unloaded, skipped: numPendingTests + numTodoTests, success }
  } catch {
    return { passed: 0, failed: 1, skipped: 0, success: false }
  }
})()
rmSync(folder, { recursive: true, force: true })
const skippedInCi = process.env.CI !== undefined && process.env.CI !== "" && process.env.CI !== "false" && counts.skipped > 0
if (skippedInCi) console.log(`${counts.skipped} tests were skipped, which counts as a failure in CI`)
if (!sound) console.log("a static check failed, see above")
console.log(`tests: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exit(sound && counts.success && counts.failed === 0 && !skippedInCi ? 0 : 1)
