/** The command line. */
import { ValidationError } from "@effect/cli"
import * as Cli from "@voltlake/commands/Cli"
import * as Main from "@voltlake/observability/Main"

Main.run("voltlake", Cli.run(process.argv), { isTold: ValidationError.isValidationError })
