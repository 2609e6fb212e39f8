-- Begins every script that writes. KEYS[1] is the hash, KEYS[2] the lease that guards the write.
-- ARGV: channel, command to publish, 'absolute', 'sliding' or '', time to live in ms, token of the
-- lease or ''; then the operation's own. Replies begin with what came of it.
local hash, channel, publish = KEYS[1], ARGV[1], ARGV[2]

if ARGV[5] ~= '' and redis.call('HGET', KEYS[2], 'token') ~= ARGV[5] then
  return {'lost'}
end

-- What a script has done is not undone when it fails, so whether it may do the rest is asked
-- before the first write, which is `count`. (Redis 6 cannot be asked.)
local function ask_permission(...)
  if not redis.acl_check_cmd then return end
  local commands = {{publish, channel, ''}, {'HSET', hash, '=kind', 'set'}, ...}
  if ARGV[3] ~= '' then table.insert(commands, {'PEXPIRE', hash, '1'}) end
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(unpack(command)) then
      error({err = 'NOPERM this user may not ' .. command[1] .. ' what the map needs'})
    end
  end
end

local function packed(text)
  return struct.pack('<I4', #text) .. text
end

local function count()
  return string.format('%.0f', redis.call('HINCRBY', hash, '=rev', 1))
end

local function expire()
  if ARGV[3] == 'absolute' then
    redis.call('PEXPIRE', hash, ARGV[4], 'NX')
  elseif ARGV[3] == 'sliding' then
    redis.call('PEXPIRE', hash, ARGV[4])
  end
end

local function put(key, value)
  local revision = count()
  redis.call('HSET', hash, key, value, '=kind', 'set')
  expire()
  redis.call(publish, channel, 'set:' .. packed(key) .. packed(value) .. packed(revision))
  return revision
end

local function drop(key)
  local revision = count()
  redis.call('HDEL', hash, key)
  redis.call('HSET', hash, '=kind', 'del')
  expire()
  redis.call(publish, channel, 'del:' .. packed(key) .. packed(revision))
  return revision
end

