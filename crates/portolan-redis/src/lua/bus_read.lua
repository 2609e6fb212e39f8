-- How a log stands, and a part of it; 0 where its meta data are gone or make no sense.
-- KEYS: meta, log. ARGV: first number, most entries, format.
local meta = meta_of(KEYS[1], ARGV[3])
if not meta then
  local some = redis.call('HLEN', KEYS[1]) > 0
    or #redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', '1') > 0
  return some and 0
end
local entries = {}
if ARGV[2] ~= '0' and meta[1] == ARGV[3] then
  entries = redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
end
return {meta[1], meta[2], meta[3], meta[4], entries}
