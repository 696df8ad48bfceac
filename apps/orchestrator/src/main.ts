/** The orchestrator in a process of its own. */
import * as Serve from "@voltlake/commands/Serve"
import * as Main from "@voltlake/observability/Main"

Main.run("orchestrator", Serve.orchestrator, Main.serviceOptions)
