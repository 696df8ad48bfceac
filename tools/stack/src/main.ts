/** `npm run stack -- up|down|wipe|status|env|restart|kill`. */
import { ValidationError } from "@effect/cli"
import * as Main from "@voltlake/observability/Main"
import * as Cli from "./Cli.ts"

Main.run("stack", Cli.run(process.argv), ValidationError.isValidationError)
