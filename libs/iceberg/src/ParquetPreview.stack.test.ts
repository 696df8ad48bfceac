import { describe } from "@effect/vitest"
import * as S3TestWarehouse from "@voltlake/testing/S3TestWarehouse"
import { parquetPreviewContract } from "./ParquetPreviewContract.ts"

describe.skipIf(!S3TestWarehouse.isThere)("S3", () => parquetPreviewContract("in S3", S3TestWarehouse.layer))
