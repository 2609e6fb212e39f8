local kind = ARGV[6]
for i = 7, #ARGV, 2 do
  if redis.call('HGET', hash, ARGV[i]) ~= ARGV[i + 1] then return {'same'} end
end
local own = redis.call('HEXISTS', hash, '=rev') + redis.call('HEXISTS', hash, '=kind')
if redis.call('HLEN', hash) == own then return {'same'} end
ask_permission({'UNLINK', hash}, {'HINCRBY', hash, '=rev', '1'}, {'PEXPIRE', hash, '1'})
local last, left = redis.call('HGET', hash, '=rev') or '0', redis.call('PTTL', hash)
redis.call('UNLINK', hash)
redis.call('HSET', hash, '=rev', last, '=kind', kind)
local revision = count()
-- The time of a map that expires goes on running.
if left > 0 then redis.call('PEXPIRE', hash, left) end
expire()
redis.call(publish, channel, kind .. ':' .. revision)
return {'done', revision}
