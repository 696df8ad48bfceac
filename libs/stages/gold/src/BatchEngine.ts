/** Who computes the rows of gold's batch models: this process, or Spark. */
import { Context, type Effect, type Scope } from "effect"
import type { Catalog } from "@voltlake/iceberg/Catalog"
import type { TableFiles } from "@voltlake/iceberg/TableFiles"
import type { Tables } from "@voltlake/iceberg/Tables"
import type { ObjectStore } from "@voltlake/object-store/ObjectStore"
import type { QueryEngine } from "@voltlake/query-engine/QueryEngine"
import type { Computed, Run, Wanted } from "./BatchWork.ts"
import * as DuckDbBatch from "./DuckDbBatch.ts"
import type * as SparkBatch from "./SparkBatch.ts"

type ComputeError = DuckDbBatch.ComputeError | SparkBatch.ComputeError
/** What it holds until the rows are committed ends with the scope. */
type Needs = Catalog | ObjectStore | QueryEngine | Scope.Scope | TableFiles | Tables

/**
 * Guarantees: the same rows whichever it is, checked for what the model promises; nothing of what it does is seen by readers of the model's table.
 * Not guaranteed: that files of a computation that failed are gone (they fall to the removal of orphans).
 */
export interface Engine {
  readonly name: string
  /** It writes all rows of a wanted day, never some: each file of the table must then be of one day. */
  readonly isByDay: boolean
  readonly compute: (run: Run, wanted: Wanted) => Effect.Effect<Computed, ComputeError, Needs>
}

export const duckDb: Engine = { name: "duckdb", isByDay: false, compute: DuckDbBatch.compute }

export class BatchEngine extends Context.Reference<BatchEngine>()("@voltlake/gold/BatchEngine", { defaultValue: () => duckDb }) {}
