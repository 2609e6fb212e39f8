local function put(key, value)
  local revision = string.format('%.0f', call('HINCRBY', hash, '=rev', 1))
  call('HSET', hash, key, value, '=kind', 'set')
  expire()
  local body = struct.pack('<I4c0I4c0I4c0', #key, key, #value, value, #revision, revision)
  call(publish, channel, 'set:' .. body)
  return revision
end

