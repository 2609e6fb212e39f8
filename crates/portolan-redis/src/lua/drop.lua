local function drop(key)
  local revision = string.format('%.0f', call('HINCRBY', hash, '=rev', 1))
  call('HDEL', hash, key)
  call('HSET', hash, '=kind', 'del')
  expire()
  call(publish, channel, 'del:' .. struct.pack('<I4c0I4c0', #key, key, #revision, revision))
  return revision
end

