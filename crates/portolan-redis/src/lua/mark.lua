-- Tells one node, in line with the updates, how the map stands: between which of them.
-- KEYS: the hash. ARGV: the node's channel, command to publish, number of the mark.
local hash = KEYS[1]
local revision = redis.call('HGET', hash, '=rev') or '0'
if not string.match(revision, '^%d+$') then
  return redis.error_reply('FORMAT the field =rev is no number')
end
local own = redis.call('HEXISTS', hash, '=rev') + redis.call('HEXISTS', hash, '=kind')
local length = redis.call('HLEN', hash) - own
local left = redis.call('PTTL', hash)
redis.call(ARGV[2], ARGV[1], 'mark:' .. ARGV[3] .. ':' .. revision .. ':' .. length .. ':' .. left)
