import { Effect, Layer } from "effect"
import { join } from "node:path"
import { temporaryFolder } from "@voltlake/postgres/testing/TemporaryFolder"
import * as DuckDbQueryEngine from "./DuckDbQueryEngine.ts"
import { queryEngineContract } from "./QueryEngineContract.ts"

queryEngineContract("DuckDB", ({ memoryLimit }) =>
  Layer.unwrapScoped(Effect.map(temporaryFolder, (folder) =>
    DuckDbQueryEngine.layer(join(folder, "scratch"), { memoryLimit, threads: 2 }))))
