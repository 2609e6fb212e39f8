local previous = {}
for i = 6, #ARGV, 2 do
  table.insert(previous, call('HGET', hash, ARGV[i]))
end
ask_permission()
local revision
for i = 6, #ARGV, 2 do revision = put(ARGV[i], ARGV[i + 1]) end
return {'done', revision, previous}
