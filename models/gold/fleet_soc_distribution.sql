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
  SELECT vehicle_id, minute_us, CAST(least(floor(battery_percent / 10), 9) AS INTEGER) AS band,
    row_number() OVER (PARTITION BY vehicle_id, minute_us ORDER BY event_us DESC, topic DESC, "partition" DESC, "offset" DESC) AS place
  FROM events WHERE battery_percent IS NOT NULL
), levels AS (
  SELECT minute_us, band, minute_us + 3660000000 AS until_us, lead(minute_us) OVER (PARTITION BY vehicle_id ORDER BY minute_us) AS next_us
  FROM ranked WHERE place = 1
), minutes AS (
  SELECT DISTINCT minute_ts, minute_us FROM events
), changes AS (
  SELECT minute_us, band, 1 AS change FROM levels
  UNION ALL
  SELECT least(until_us, coalesce(next_us, until_us)) AS minute_us, band, -1 AS change FROM levels
  UNION ALL
  SELECT minutes.minute_us, bands.band, 0 AS change FROM minutes CROSS JOIN (SELECT DISTINCT band FROM levels) AS bands
), totals AS (
  SELECT minute_us, band, sum(change) AS change FROM changes GROUP BY minute_us, band
), running AS (
  SELECT minute_us, band, CAST(sum(change) OVER (PARTITION BY band ORDER BY minute_us) AS BIGINT) AS vehicles FROM totals
)
SELECT minutes.minute_ts, running.band, running.vehicles
FROM minutes JOIN running ON running.minute_us = minutes.minute_us
WHERE running.vehicles > 0
