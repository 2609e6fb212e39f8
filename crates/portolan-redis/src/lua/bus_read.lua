-- How a log stands, and a part of it. KEYS: meta, log. ARGV: first number, most entries.
local meta = redis.call('HMGET', KEYS[1], 'format', 'epoch', 'last', 'snapshot')
if not meta[2] then return false end
local entries = {}
if ARGV[2] ~= '0' then
  entries = redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
end
return {meta[1], meta[2], meta[3], meta[4], entries}
