/**
 * Gold in PostgreSQL: the demonstration stack's two minute tables by its names and columns, what merging needs beside them, the latest value of
 * every signal, and gold's own position.
 *
 * Sums are `numeric`, so that they do not depend on the order of events. Tables of models are made by `GoldTable` where they are missing.
 */
import { fromSql } from "@voltlake/postgres/Migrations"

const average = (name: string) =>
  `${name} double precision GENERATED ALWAYS AS (
    CASE WHEN speed_count = 0 THEN NULL
      WHEN speed_sum < 1000000000 THEN speed_sum::double precision / speed_count
      ELSE (speed_sum / speed_count)::double precision END) STORED`

const tables = `
CREATE TABLE gold_vehicle_minute_metrics (
  vehicle_id text COLLATE "C" NOT NULL,
  minute_ts timestamp NOT NULL,
  ${average("avg_speed_mph")},
  max_speed_mph double precision,
  min_battery_percent double precision,
  event_count bigint NOT NULL,
  speed_sum numeric NOT NULL,
  speed_count bigint NOT NULL,
  PRIMARY KEY (vehicle_id, minute_ts)
);
CREATE INDEX gold_vehicle_minute_metrics_minute ON gold_vehicle_minute_metrics (minute_ts);
COMMENT ON TABLE gold_vehicle_minute_metrics IS 'Per vehicle and minute (UTC) of event time: averages over events that have a speed';

CREATE TABLE gold_fleet_minute_metrics (
  minute_ts timestamp PRIMARY KEY,
  ${average("avg_speed_mph_fleet")},
  min_battery_percent_fleet double precision,
  total_events bigint NOT NULL,
  speed_sum numeric NOT NULL,
  speed_count bigint NOT NULL
);
COMMENT ON TABLE gold_fleet_minute_metrics IS 'The whole fleet per minute (UTC) of event time';

CREATE TABLE vehicle_signal_latest (
  vehicle_id text COLLATE "C" NOT NULL,
  signal text COLLATE "C" NOT NULL,
  value double precision NOT NULL,
  event_ts timestamptz NOT NULL,
  topic text COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  PRIMARY KEY (vehicle_id, signal)
);
CREATE VIEW vehicle_latest AS SELECT *, now() - event_ts AS age FROM vehicle_signal_latest;
COMMENT ON VIEW vehicle_latest IS 'Per vehicle and signal the value of the greatest (event_ts, topic, partition, offset), and how old it is';

CREATE TABLE lake.gold_progress (
  id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  progress text NOT NULL
);
COMMENT ON TABLE lake.gold_progress IS 'How far gold has read silver, moved in the transaction that writes the metrics';
INSERT INTO lake.gold_progress (progress) VALUES ('{}');
`

/** The nearest double to the sum, divided as doubles: which every engine does alike. */
const averageOfDoubles = "CASE WHEN speed_count > 0 THEN speed_sum::double precision / speed_count END"

const models = `
CREATE TABLE lake.gold_model (
  name text PRIMARY KEY,
  text text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE lake.gold_model IS 'Models that operators have applied, as they wrote them; they win over those of the same name that come with Voltlake';

CREATE TABLE lake.gold_model_state (
  name text PRIMARY KEY,
  table_uuid uuid NOT NULL,
  published_sequence bigint,
  compared text
);
COMMENT ON TABLE lake.gold_model_state IS 'Up to which snapshot of gold.<name> the table gold_<name> has its rows, and up to which silver live values were compared with it';
`

/** In the place of a hash: the table is kept live from before models were. */
export const keptBefore = "kept before"

const live = `
ALTER TABLE gold_vehicle_minute_metrics ALTER COLUMN avg_speed_mph DROP EXPRESSION;
ALTER TABLE gold_fleet_minute_metrics ALTER COLUMN avg_speed_mph_fleet DROP EXPRESSION;
ALTER TABLE lake.gold_progress ADD COLUMN minutes_from integer, ADD COLUMN revision bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN lake.gold_progress.revision IS 'Counts what was changed in live tables without moving the progress';
COMMENT ON COLUMN lake.gold_progress.minutes_from IS 'The first day (since 1970) of which tables of minutes have rows here; none: all days';
ALTER TABLE lake.gold_model_state ALTER COLUMN table_uuid DROP NOT NULL, ADD COLUMN live text;
-- Rows are written over and over: a page with room takes the new version beside the old, and no index is touched.
ALTER TABLE vehicle_signal_latest SET (fillfactor = 50);
ALTER TABLE gold_vehicle_minute_metrics SET (fillfactor = 70);
-- Until now both tables were kept live without a model's hash: they have what the models of this version give.
INSERT INTO lake.gold_model_state (name, live) SELECT name, '${keptBefore}' FROM unnest(array['vehicle_minute_metrics', 'fleet_minute_metrics']) AS name
  WHERE (SELECT progress FROM lake.gold_progress) <> '{}' ON CONFLICT (name) DO UPDATE SET live = excluded.live;
COMMENT ON COLUMN lake.gold_model_state.live IS 'The hash of the model whose rows gold_<name> has up to gold''s position, moved by each commit of it';
`

export const migrations = [
  fromSql("gold/create-minute-metrics", tables),
  fromSql("gold/silver-epoch", "ALTER TABLE lake.gold_progress ADD COLUMN silver_epoch integer NOT NULL DEFAULT 0"),
  fromSql("gold/averages-of-doubles", `
    ALTER TABLE gold_vehicle_minute_metrics ALTER COLUMN avg_speed_mph SET EXPRESSION AS (${averageOfDoubles});
    ALTER TABLE gold_fleet_minute_metrics ALTER COLUMN avg_speed_mph_fleet SET EXPRESSION AS (${averageOfDoubles})`),
  fromSql("gold/silver-removal", "ALTER TABLE lake.gold_progress ADD COLUMN silver_removal text NOT NULL DEFAULT ''"),
  fromSql("gold/models", models),
  fromSql("gold/live-models", live)
]
