local key = ARGV[6]
local previous = call('HGET', hash, key)
if not previous then return {'same', false, previous, false, {}} end
local items = list(previous)
if not items then return {'no list', false, previous} end
local gone, rest = {}, {}
for i = 7, #ARGV do gone[ARGV[i]] = true end
for _, item in ipairs(items) do
  if not gone[item] then table.insert(rest, item) end
end
if #rest == #items then return {'same', false, previous, previous, items} end
ask_permission()
ask('HDEL', hash, key)
if #rest == 0 then return {'done', drop(key), previous, false, rest} end
local value = cjson.encode(rest)
return {'done', put(key, value), previous, value, rest}
