local key = ARGV[6]
local previous = call('HGET', hash, key)
ask_permission()
ask('HINCRBY', hash, '=rev', '1')
local sum = redis.pcall('HINCRBY', hash, key, ARGV[7])
if type(sum) == 'table' and sum.err then
  if string.find(sum.err, 'overflow', 1, true) then return {'overflow'} end
  if string.find(sum.err, 'not an integer', 1, true) then return {'no integer', false, previous} end
  return sum
end
-- As Redis writes it: a number of Lua has 53 bits.
local value = call('HGET', hash, key)
return {'done', put(key, value), previous, value}
