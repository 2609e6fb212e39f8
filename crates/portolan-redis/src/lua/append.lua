local key, unique = ARGV[6], ARGV[7] == 'unique'
local previous = call('HGET', hash, key)
local items = previous and list(previous) or {}
if previous and not list(previous) then return {'no list', false, previous} end
local held, changed = {}, false
if unique then
  for _, item in ipairs(items) do held[item] = true end
end
for i = 8, #ARGV do
  if not held[ARGV[i]] then
    table.insert(items, ARGV[i])
    if unique then held[ARGV[i]] = true end
    changed = true
  end
end
if not changed then return {'same', false, previous, previous, items} end
ask_permission()
local value = cjson.encode(items)
return {'done', put(key, value), previous, value, items}
