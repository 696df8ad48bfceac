-- name: fleet_minute_metrics
-- description: The whole fleet per minute (UTC) of event time
-- key: minute_ts
-- time: minute_ts
-- grain: minute
-- refresh: live
-- test: total_events > 0
-- test: speed_count <= total_events
-- column avg_speed_mph_fleet: Over all events that have a speed
-- column min_battery_percent_fleet: The lowest
-- column total_events: Events of all vehicles
-- column speed_sum: Of the speeds, exact; speeds of 10^15 and more are left out, here and in the average
-- column speed_count: Speeds in the sum
WITH minutes AS (
  SELECT date_trunc('minute', event_ts) AS minute_ts, min(battery_percent) AS min_battery_percent_fleet, count(*) AS total_events,
    coalesce(sum(CASE WHEN speed_mph < 1e15 THEN CAST(speed_mph AS DECIMAL(38, 6)) END), 0) AS speed_sum,
    count(CASE WHEN speed_mph < 1e15 THEN 1 END) AS speed_count
  FROM silver.telemetry_clean
  GROUP BY date_trunc('minute', event_ts)
)
SELECT minute_ts, CAST(CAST(speed_sum AS STRING) AS DOUBLE) / nullif(speed_count, 0) AS avg_speed_mph_fleet,
  min_battery_percent_fleet, total_events, speed_sum, speed_count
FROM minutes
