local kind = ARGV[6]
for i = 7, #ARGV, 2 do
  if call('HGET', hash, ARGV[i]) ~= ARGV[i + 1] then return {'same'} end
end
local own = call('HEXISTS', hash, '=rev') + call('HEXISTS', hash, '=kind')
if call('HLEN', hash) == own then return {'same'} end
ask_permission()
ask('UNLINK', hash)
ask('HINCRBY', hash, '=rev', '1')
ask('PEXPIRE', hash, '1')
local last, left = call('HGET', hash, '=rev') or '0', call('PTTL', hash)
call('UNLINK', hash)
call('HSET', hash, '=rev', last, '=kind', kind)
local revision = string.format('%.0f', call('HINCRBY', hash, '=rev', 1))
-- The time of a map that expires goes on running.
if left > 0 then call('PEXPIRE', hash, left) end
expire()
call(publish, channel, kind .. ':' .. revision)
return {'done', revision}
