-- The list of strings that a value is: a JSON array of strings, or the older text with commas.
-- Nil where it is neither.
local function list(value)
  local first = string.match(value, '^%s*(.)')
  local is_json, decoded = pcall(cjson.decode, value)
  -- The decoder takes `nan` and `0x1f` for numbers, which JSON has not.
  if is_json and type(decoded) == 'number' then
    is_json = string.match(value, '^%s*-?%d+%.?%d*[eE]?[+-]?%d*%s*$')
  end
  if not is_json then
    if first == '[' or first == '{' or first == '"' then return nil end
    local items = {}
    for item in string.gmatch(value, '[^,]+') do table.insert(items, item) end
    return items
  end
  if first ~= '[' then return nil end
  for _, item in ipairs(decoded) do
    if type(item) ~= 'string' then return nil end
  end
  return decoded
end

