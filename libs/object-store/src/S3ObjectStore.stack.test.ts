import { describe } from "@effect/vitest"
import * as S3TestWarehouse from "@voltlake/testing/S3TestWarehouse"
import { objectStoreContract } from "./ObjectStoreContract.ts"

describe.skipIf(!S3TestWarehouse.isThere)("S3ObjectStore", () => objectStoreContract("s3", S3TestWarehouse.layer))
