import * as S3TestWarehouse from "@voltlake/testing/S3TestWarehouse"
import { objectStoreContract } from "./ObjectStoreContract.ts"

objectStoreContract("s3", S3TestWarehouse.layer())
