/** What every endpoint may answer. */
import { HttpApiSchema } from "@effect/platform"
import { Schema } from "effect"

/** The lake cannot be read right now. */
export class LakeUnavailable extends Schema.TaggedError<LakeUnavailable>()(
  "LakeUnavailable",
  { reason: Schema.String },
  HttpApiSchema.annotations({ status: 503 })
) {}
