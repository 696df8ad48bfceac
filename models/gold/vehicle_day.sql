-- name: vehicle_day
-- description: Per vehicle and day (UTC) of event time: how far it went, what it used, and how well it was heard of
-- key: vehicle_id, day_ts
-- time: day_ts
-- grain: day
-- refresh: batch
-- test: events > 0
-- test: minutes_moving + minutes_standing <= 1440
-- test: battery_used_percent >= 0 AND battery_regained_percent >= 0
-- column distance_miles: Last odometer less the first
-- column first_odometer_miles: Of the earliest event that has one
-- column last_odometer_miles: Of the latest event that has one
-- column battery_used_percent: Sum of all drops between one battery level and the next
-- column battery_regained_percent: Sum of all rises
-- column minutes_moving: Minutes with a speed above 0
-- column minutes_standing: Minutes with speeds, none above 0
-- column events: All events
-- column largest_gap_seconds: Longest time between one event and the next; none where there is one event only
WITH events AS (
  SELECT vehicle_id, date_trunc('day', event_ts) AS day_ts, date_trunc('minute', event_ts) AS minute_ts, event_us, topic, "partition", "offset",
    speed_mph, odometer_miles, CAST(battery_percent AS DECIMAL(12, 6)) AS battery
  FROM silver.telemetry_clean
), gaps AS (
  SELECT vehicle_id, day_ts, event_us - lag(event_us) OVER (PARTITION BY vehicle_id, day_ts ORDER BY event_us, topic, "partition", "offset") AS gap_us
  FROM events
), counts AS (
  SELECT vehicle_id, day_ts, count(*) AS events, CAST(max(gap_us) AS DOUBLE) / 1000000 AS largest_gap_seconds FROM gaps GROUP BY vehicle_id, day_ts
), minutes AS (
  SELECT vehicle_id, day_ts, minute_ts, max(speed_mph) AS speed FROM events WHERE speed_mph IS NOT NULL GROUP BY vehicle_id, day_ts, minute_ts
), moves AS (
  SELECT vehicle_id, day_ts, count(CASE WHEN speed > 0 THEN 1 END) AS minutes_moving, count(CASE WHEN speed = 0 THEN 1 END) AS minutes_standing
  FROM minutes GROUP BY vehicle_id, day_ts
), odometer AS (
  SELECT vehicle_id, day_ts, odometer_miles, row_number() OVER (PARTITION BY vehicle_id, day_ts ORDER BY event_us, topic, "partition", "offset") AS place,
    count(*) OVER (PARTITION BY vehicle_id, day_ts) AS places
  FROM events WHERE odometer_miles IS NOT NULL
), ways AS (
  SELECT vehicle_id, day_ts, max(CASE WHEN place = 1 THEN odometer_miles END) AS first_odometer_miles,
    max(CASE WHEN place = places THEN odometer_miles END) AS last_odometer_miles
  FROM odometer WHERE place = 1 OR place = places GROUP BY vehicle_id, day_ts
), levels AS (
  SELECT vehicle_id, day_ts, battery - lag(battery) OVER (PARTITION BY vehicle_id, day_ts ORDER BY event_us, topic, "partition", "offset") AS change
  FROM events WHERE battery IS NOT NULL
), battery AS (
  SELECT vehicle_id, day_ts, sum(CASE WHEN change < 0 THEN -change END) AS used, sum(CASE WHEN change > 0 THEN change END) AS regained
  FROM levels GROUP BY vehicle_id, day_ts
)
SELECT counts.vehicle_id, counts.day_ts, last_odometer_miles - first_odometer_miles AS distance_miles, first_odometer_miles, last_odometer_miles,
  CAST(coalesce(used, 0) AS DECIMAL(38, 6)) AS battery_used_percent, CAST(coalesce(regained, 0) AS DECIMAL(38, 6)) AS battery_regained_percent,
  coalesce(minutes_moving, 0) AS minutes_moving, coalesce(minutes_standing, 0) AS minutes_standing, counts.events, largest_gap_seconds
FROM counts
  LEFT JOIN moves ON moves.vehicle_id = counts.vehicle_id AND moves.day_ts = counts.day_ts
  LEFT JOIN ways ON ways.vehicle_id = counts.vehicle_id AND ways.day_ts = counts.day_ts
  LEFT JOIN battery ON battery.vehicle_id = counts.vehicle_id AND battery.day_ts = counts.day_ts
