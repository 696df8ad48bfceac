/**
 * The log's tables in PostgreSQL.
 *
 * `log.partition` holds each partition's bounds. An append takes its offsets by updating that row, whose lock it holds
 * until it commits: so offsets are given in commit order, and whoever sees a segment sees all before it. `log.segment`
 * holds the records, many to a row.
 */
import { fromSql, type Migration } from "@voltlake/postgres/Migrations"

/** Raised by the functions below: the partition does not exist. The message is its number. */
export const unknownPartitionState = "VL001"
export const channel = "voltlake_log"

export const migrations: ReadonlyArray<Migration> = [
  fromSql("event-log/create", `
    create schema log;

    create table log.partition (
      topic text not null,
      partition int not null,
      first_offset int8 not null default 0,
      next_offset int8 not null default 0,
      primary key (topic, partition)
    -- Updated by every append: room for the new versions beside the old ones spares the index.
    ) with (fillfactor = 20);

    create table log.segment (
      topic text not null,
      partition int not null,
      base_offset int8 not null,
      record_count int not null,
      timestamp_max float8 not null,
      payload bytea not null,
      primary key (topic, partition, base_offset)
    );
    -- Stored as it is: the server's compression is slower than its disk.
    alter table log.segment alter column payload set storage external;

    -- Appends segments, sorted by partition; several may be of one partition. One call is one statement: it commits by
    -- itself, and all of it.
    create function log.append(
      in_topic text, in_partitions int[], in_counts int[], in_timestamps float8[], in_lengths int[], in_payload bytea
    ) returns table (out_partition int, out_start int8, out_end int8) language plpgsql as $function$
    declare
      total int := cardinality(in_partitions);
      which int := 1;
      past int;
      taken int8;
      at int := 1;
    begin
      while which <= total loop
        out_partition := in_partitions[which];
        past := which;
        taken := 0;
        while past <= total and in_partitions[past] = out_partition loop
          taken := taken + in_counts[past];
          past := past + 1;
        end loop;
        update log.partition p set next_offset = p.next_offset + taken
          where p.topic = in_topic and p.partition = out_partition returning p.next_offset into out_end;
        if not found then
          raise exception using errcode = '${unknownPartitionState}', message = out_partition::text;
        end if;
        out_start := out_end - taken;
        taken := out_start;
        for segment in which .. past - 1 loop
          insert into log.segment values (in_topic, out_partition, taken, in_counts[segment], in_timestamps[segment],
            substring(in_payload from at for in_lengths[segment]));
          taken := taken + in_counts[segment];
          at := at + in_lengths[segment];
        end loop;
        which := past;
        return next;
      end loop;
      perform pg_notify('${channel}', in_topic);
    end $function$;

    -- Drops the segments wholly below an offset.
    create function log.trim(in_topic text, in_partition int, in_offset int8) returns void
    language plpgsql as $function$
    declare
      bounds log.partition;
      kept int8;
    begin
      select * into bounds from log.partition where topic = in_topic and partition = in_partition for update;
      if not found then
        raise exception using errcode = '${unknownPartitionState}', message = in_partition::text;
      end if;
      if in_offset >= bounds.next_offset then
        kept := bounds.next_offset;
      else
        select max(base_offset) into kept from log.segment
          where topic = in_topic and partition = in_partition and base_offset <= in_offset;
      end if;
      if kept > bounds.first_offset then
        delete from log.segment where topic = in_topic and partition = in_partition and base_offset < kept;
        update log.partition set first_offset = kept where topic = in_topic and partition = in_partition;
      end if;
    end $function$;
  `),
  // A row rather than the server's own identifier: a dump that is restored elsewhere is the same log.
  fromSql("event-log/identity", `
    create table log.identity (id uuid not null default gen_random_uuid());
    insert into log.identity default values;
  `)
]

export const appendSql = "select out_partition, out_start, out_end from log.append($1, $2, $3, $4, $5, $6)"

/**
 * Bounds, and the segments from the one that holds offset $3 on: those before offset $4, and while the ones before them
 * are under $5 bytes, at most $6. One statement, so bounds and segments are of one moment. Lengths are known without
 * fetching the payloads.
 */
export const readSql = `
  select b.first_offset, b.next_offset, s.base_offset, s.record_count, s.payload
  from (select first_offset, next_offset from log.partition where topic = $1 and partition = $2) b
  left join lateral (
    select base_offset, record_count, payload from (
      select base_offset, record_count, payload,
        sum(octet_length(payload))
          over (order by base_offset rows between unbounded preceding and 1 preceding) as before
      from (
        select base_offset, record_count, payload from log.segment
        where topic = $1 and partition = $2 and base_offset < $4::int8 and base_offset >= (
          select max(base_offset) from log.segment where topic = $1 and partition = $2 and base_offset <= $3::int8
        )
        order by base_offset limit $6::int
      ) near
    ) summed where coalesce(before, 0) < $5::int8
  ) s on $3::int8 between b.first_offset and b.next_offset - 1
  order by s.base_offset`
