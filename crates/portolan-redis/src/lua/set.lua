local key, ttl = ARGV[6], ARGV[8]
local previous = call('HGET', hash, key)
if ttl then
  local known = redis.pcall('HPTTL', hash, 'FIELDS', '1', key)
  if type(known) == 'table' and known.err then
    if string.find(known.err, '[Uu]nknown') then return {'unsupported'} end
    return known
  end
  ask('HPEXPIRE', hash, ttl, 'FIELDS', '1', key)
end
ask_permission()
local revision = put(key, ARGV[7])
if ttl then call('HPEXPIRE', hash, ttl, 'FIELDS', '1', key) end
return {'done', revision, previous}
