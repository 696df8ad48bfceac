/** `npm run stack -- up|down|wipe|status|env|restart|kill|fetch|hold`. */
import { ValidationError } from "@effect/cli"
import * as Main from "@voltlake/observability/Main"
import * as Cli from "./Cli.ts"

// The version of Node is Voltlake's own concern, and is said by what installs it.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true"

Main.run("stack", Cli.run(process.argv), { isTold: ValidationError.isValidationError })
