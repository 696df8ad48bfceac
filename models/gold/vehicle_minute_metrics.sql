-- name: vehicle_minute_metrics
-- description: Per vehicle and minute (UTC) of event time: averages over events that have a speed
-- key: vehicle_id, minute_ts
-- time: minute_ts
-- grain: minute
-- refresh: live
-- test: event_count > 0
-- test: speed_count <= event_count
-- column avg_speed_mph: Over the events that have a speed: the nearest double to the sum, divided by the count
-- column max_speed_mph: The highest
-- column min_battery_percent: The lowest
-- column event_count: Events, with a speed or without
-- column speed_sum: Of the speeds, exact; speeds of 10^15 and more are left out, here and in the average
-- column speed_count: Speeds in the sum
WITH minutes AS (
  SELECT vehicle_id, date_trunc('minute', event_ts) AS minute_ts,
    max(speed_mph) AS max_speed_mph, min(battery_percent) AS min_battery_percent, count(*) AS event_count,
    coalesce(sum(CASE WHEN speed_mph < 1e15 THEN CAST(speed_mph AS DECIMAL(38, 6)) END), 0) AS speed_sum,
    count(CASE WHEN speed_mph < 1e15 THEN 1 END) AS speed_count
  FROM silver.telemetry_clean
  GROUP BY vehicle_id, date_trunc('minute', event_ts)
)
SELECT vehicle_id, minute_ts, CAST(CAST(speed_sum AS STRING) AS DOUBLE) / nullif(speed_count, 0) AS avg_speed_mph,
  max_speed_mph, min_battery_percent, event_count, speed_sum, speed_count
FROM minutes
