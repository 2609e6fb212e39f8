-- KEYS: the lease, the last token of the map. ARGV: owner, time to live in ms.
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner then return {'held', owner, redis.call('PTTL', KEYS[1])} end
ask('HSET', KEYS[1], 'owner', '')
ask('PEXPIRE', KEYS[1], ARGV[2])
-- Tokens are microseconds of Redis's clock, so they grow even if the last one was lost.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = string.format('%.0f', math.max(now, last + 1))
redis.call('SET', KEYS[2], token)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'token', token)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'done', token}
