-- What `set.lua` does where no time to live and no lease is asked for, which is most of all writes:
-- by itself, for each argument, function and command of a script takes its time.
-- KEYS: the hash. ARGV: channel, key, value, command to publish.
local hash, channel, key, value, publish = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local call, may = redis.call, redis.acl_check_cmd
-- The one write fails by itself where it is not allowed.
if may and not may(publish, channel, '') then
  error({err = 'NOPERM this user may not ' .. publish .. ' what the map needs'})
end
local previous, last = call('HGET', hash, key), call('HGET', hash, '=rev') or '0'
if string.find(last, '%D') then error({err = 'FORMAT the field =rev is no number'}) end
local revision = string.format('%.0f', last + 1)
call('HSET', hash, key, value, '=kind', 'set', '=rev', revision)
local body = struct.pack('<I4c0I4c0I4c0', #key, key, #value, value, #revision, revision)
call(publish, channel, 'set:' .. body)
return {'done', revision, previous}
