-- Lets one server save a snapshot. KEYS: meta, claim. ARGV: place of the latest, milliseconds.
if redis.call('HGET', KEYS[1], 'snapshot') ~= ARGV[1] then return 0 end
return redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[2]) and 1 or 0
