/**
 * The parts of kafkajs behind its API that we use: its connections, which see to TLS, logins, retries and who leads a partition. They are those of the
 * one version that the lock file holds, and every use of them goes through here.
 */
import type { Kafka } from "kafkajs"
import { invariant } from "@voltlake/domain/Failure"

export interface Request {
  readonly apiKey: number
  readonly apiVersion: number
  readonly apiName: string
  /** Both are the encoded bytes: kafkajs takes one of its own encoders. */
  readonly encode: () => Promise<{ readonly buf: Buffer; readonly buffer: Buffer }>
}

export interface Response<A> {
  readonly decode: (payload: Buffer) => Promise<A & { readonly clientSideThrottleTime: number }>
  readonly parse: (decoded: A) => Promise<A>
}

export interface Broker {
  readonly connectionPool: {
    readonly send: <A>(protocol: { readonly request: Request; readonly response: Response<A>; readonly requestTimeout?: number }) => Promise<A>
  }
}

export interface Cluster {
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
  readonly addTargetTopic: (topic: string) => Promise<void>
  readonly refreshMetadata: () => Promise<void>
  readonly refreshMetadataIfNecessary: () => Promise<void>
  readonly findTopicPartitionMetadata: (topic: string) => ReadonlyArray<{ readonly partitionId: number; readonly leader: number }>
  /** Connected, and logged in. */
  readonly findBroker: (node: { readonly nodeId: number }) => Promise<Broker>
}

interface ClusterOptions {
  readonly metadataMaxAge?: number
  readonly allowAutoTopicCreation?: boolean
  /** 0: READ_UNCOMMITTED, 1: READ_COMMITTED. */
  readonly isolationLevel?: 0 | 1
}

type CreateCluster = (options: ClusterOptions) => Cluster

const holderOf = (client: Kafka) => {
  const symbol = Object.getOwnPropertySymbols(client).find(({ description }) => description === "private:Kafka:createCluster")
  invariant(symbol !== undefined, "kafkajs is the version that this was written for")
  const holder = client as unknown as Record<symbol, CreateCluster>
  return { holder, symbol, create: holder[symbol]! }
}

/** Connections of one's own to the brokers. */
export const cluster = (client: Kafka, options: ClusterOptions): Cluster => holderOf(client).create(options)

/**
 * A client whose admin says where logs end. As it comes, it says where the first open transaction begins, so that nobody would see that one holds a
 * log back; and kafkajs has a setting of it for consumers only.
 */
export const seeingOpenTransactions = (client: Kafka): Kafka => {
  const { create, holder, symbol } = holderOf(client)
  holder[symbol] = (options) => create({ ...options, isolationLevel: 0 })
  return client
}
