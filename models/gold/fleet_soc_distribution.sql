-- name: fleet_soc_distribution
-- description: Vehicles by band of battery level, per minute (UTC) that has an event; a vehicle counts for 60 minutes after its last level
-- key: minute_ts, band
-- time: minute_ts
-- grain: minute
-- refresh: batch
-- lookback: 60 minutes
-- test: band BETWEEN 0 AND 9
-- test: vehicles > 0
-- column band: Of ten percent each: 0 is below 10 %, 9 is 90 % and more
-- column vehicles: Whose last level is in the band
WITH events AS (
  SELECT vehicle_id, date_trunc('minute', event_ts) AS minute_ts, event_us - (event_us % 60000000 + 60000000) % 60000000 AS minute_us, event_us, topic, "partition", "offset",
    battery_percent
  FROM silver.telemetry_clean
), ranked AS (
  SELECT vehicle_id, minute_us, battery_percent,
    row_number() OVER (PARTITION BY vehicle_id, minute_us ORDER BY event_us DESC, topic DESC, "partition" DESC, "offset" DESC) AS place
  FROM events WHERE battery_percent IS NOT NULL
), levels AS (
  SELECT vehicle_id, minute_us, battery_percent, lead(minute_us) OVER (PARTITION BY vehicle_id ORDER BY minute_us) AS next_us
  FROM ranked WHERE place = 1
), minutes AS (
  SELECT DISTINCT minute_ts, minute_us FROM events
)
SELECT minutes.minute_ts, CAST(least(floor(levels.battery_percent / 10), 9) AS INTEGER) AS band, count(*) AS vehicles
FROM minutes JOIN levels ON levels.minute_us <= minutes.minute_us AND levels.minute_us >= minutes.minute_us - 3600000000
  AND (levels.next_us IS NULL OR levels.next_us > minutes.minute_us)
GROUP BY minutes.minute_ts, CAST(least(floor(levels.battery_percent / 10), 9) AS INTEGER)
