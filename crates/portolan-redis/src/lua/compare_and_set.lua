local previous = call('HGET', hash, ARGV[6])
if previous ~= ARGV[7] then return {'same', false, previous} end
ask_permission()
return {'done', put(ARGV[6], ARGV[8]), previous}
