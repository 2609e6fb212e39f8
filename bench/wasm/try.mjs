// That the module does what it is for: `node try.mjs MODULE`. It shows how a page would call it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]));
const engine = instance.exports;

const NOTHING = -1;
const [NULL, FALSE, TRUE, INT, FLOAT, STR, BYTES, LIST, MAP] = Array(9).keys();

/** The bytes of a plain value, as `plain.rs` reads them. */
function written(value) {
  const tagged = (tag, size, fill) => {
    const bytes = new Uint8Array(1 + size);
    bytes[0] = tag;
    fill(new DataView(bytes.buffer, 1));
    return bytes;
  };
  const counted = (tag, count, parts) =>
    joined([tagged(tag, 4, (view) => view.setUint32(0, count, true)), ...parts]);
  const text = (string) => {
    const bytes = new TextEncoder().encode(string);
    return counted(STR, bytes.length, [bytes]);
  };
  if (value === null) return Uint8Array.of(NULL);
  if (typeof value === "boolean") return Uint8Array.of(value ? TRUE : FALSE);
  if (typeof value === "bigint") return tagged(INT, 8, (view) => view.setBigInt64(0, value, true));
  if (typeof value === "number") return tagged(FLOAT, 8, (view) => view.setFloat64(0, value, true));
  if (typeof value === "string") return text(value);
  if (value instanceof Uint8Array) return counted(BYTES, value.length, [value]);
  if (Array.isArray(value)) return counted(LIST, value.length, value.map(written));
  const fields = Object.entries(value);
  return counted(MAP, fields.length, fields.flatMap(([name, item]) => [text(name), written(item)]));
}

/** The values that stand one behind the other in bytes. */
function* read(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const take = (size) => (at += size) - size;
  const count = () => view.getUint32(take(4), true);
  const some = (size) => bytes.slice(take(size), at);
  const next = () => {
    switch (view.getUint8(take(1))) {
      case NULL: return null;
      case FALSE: return false;
      case TRUE: return true;
      case INT: return view.getBigInt64(take(8), true);
      case FLOAT: return view.getFloat64(take(8), true);
      case STR: return new TextDecoder().decode(some(count()));
      case BYTES: return some(count());
      case LIST: return Array.from({ length: count() }, next);
      case MAP: return Object.fromEntries(Array.from({ length: count() }, () => [next(), next()]));
    }
  };
  while (at < bytes.length) yield next();
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}

/** Calls an export with bytes in the buffer. */
function call(name, document, input = [], ...rest) {
  const bytes = joined(input);
  const room = engine.buffer_input(bytes.length);
  new Uint8Array(engine.memory.buffer, room, bytes.length).set(bytes);
  return engine[name](document, ...rest);
}

/** As `call`; the bytes that it answers. */
function ask(name, document, input = []) {
  const length = call(name, document, input);
  if (length === NOTHING) return undefined;
  assert.ok(length >= 0, name);
  return new Uint8Array(engine.memory.buffer, engine.buffer_output(), length).slice();
}

function write(name, document, input, ...rest) {
  assert.equal(call(name, document, input.map(written), ...rest), 0, name);
}

const first = (bytes) => bytes && [...read(bytes)][0];
const get = (document, key) => first(ask("map_get", document, [written(key)]));
const entries = (document) => [...read(ask("map_entries", document))];
const elements = (document, key) => [...read(ask("array_elements", document, [written(key)]))];

/** `to` gets what it lacks of `from`. */
function send(from, to) {
  const delta = ask("document_since", from, [ask("document_version", to)]);
  assert.equal(call("document_apply", to, [delta]), 0);
}

const now = Date.now();
const [ada, ben] = [engine.document_new(1n), engine.document_new(2n)];

// A map: every kind of key and value, in order.
const nested = { list: [1n, 1.5, null, true], bytes: Uint8Array.of(1, 2) };
for (const [key, value] of [["b", nested], ["a", "text"], [7n, -7n], [false, 0.5]]) {
  write("map_set", ada, [key, value], now);
}
assert.deepEqual(get(ada, "b"), nested);
assert.equal(get(ada, "c"), undefined);
assert.deepEqual(entries(ada), [false, 0.5, 7n, -7n, "a", "text", "b", nested]);
write("map_unset", ada, ["a"], now);
assert.equal(get(ada, "a"), undefined);

// An array.
for (const value of ["one", "three"]) write("array_append", ada, ["list", value], now);
write("array_insert", ada, ["list", "two"], now, 1);
assert.deepEqual(elements(ada, "list"), ["one", "two", "three"]);

// Two replicas write at once, and hold the same when each has heard of the other.
send(ada, ben);
assert.deepEqual(elements(ben, "list"), ["one", "two", "three"]);
write("array_delete", ada, ["list"], now + 1, 0);
write("array_append", ben, ["list", "four"], now + 1);
write("map_set", ada, ["who", "ada"], now + 1);
write("map_set", ben, ["who", "ben"], now + 2);
send(ada, ben);
send(ben, ada);
for (const document of [ada, ben]) {
  assert.deepEqual(elements(document, "list"), ["two", "three", "four"]);
  assert.equal(get(document, "who"), "ben");
  const length = ask("array_length", document, [written("list")]);
  assert.equal(new DataView(length.buffer).getUint32(0, true), 3);
  assert.equal(call("array_get", document, [written("list")], 3), NOTHING);
}
const state = ask("document_encode", ada);
assert.deepEqual(state, ask("document_encode", ben));

// A third takes the whole state, and refuses one that was damaged.
const cara = engine.document_new(3n);
assert.equal(call("document_apply", cara, [state]), 0);
assert.deepEqual(entries(cara), entries(ada));
state[state.length >> 1] ^= 1;
assert.equal(call("document_apply", cara, [state]), -2);

// Many writes, more memory than the module begins with.
for (let i = 0; i < 20_000; i++) write("map_set", cara, [`key-${i}`, BigInt(i)], now + 3);
assert.equal(get(cara, "key-12345"), 12345n);
assert.equal(entries(cara).length, 2 * (20_000 + entries(ada).length / 2));
