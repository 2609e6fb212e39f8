local previous = call('HGET', hash, ARGV[6])
if not previous or (ARGV[7] and previous ~= ARGV[7]) then return {'same', false, previous} end
ask_permission()
ask('HDEL', hash, ARGV[6])
return {'done', drop(ARGV[6]), previous}
