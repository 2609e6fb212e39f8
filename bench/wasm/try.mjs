// That the module does what it is for: `node try.mjs MODULE`. It shows how a page would call it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]));
const engine = instance.exports;

const NOTHING = -1;
const [NULL, FALSE, TRUE, INT, FLOAT, STR, BYTES, LIST, MAP] = Array(9).keys();

/** An integer without a sign, seven bits a byte. */
function varint(n) {
  const bytes = [];
  for (let rest = BigInt(n); bytes.push(Number(rest & 127n)), (rest >>= 7n); ) {
    bytes[bytes.length - 1] |= 128;
  }
  return Uint8Array.from(bytes);
}

/** The bytes of a plain value, as the engine reads them. */
function written(value) {
  const tagged = (tag, ...parts) => joined([Uint8Array.of(tag), ...parts]);
  const counted = (items) => [varint(items.length), ...items];
  const utf8 = (string) => new TextEncoder().encode(string);
  const text = (string) => joined([varint(utf8(string).length), utf8(string)]);
  if (value === null) return tagged(NULL);
  if (typeof value === "boolean") return tagged(value ? TRUE : FALSE);
  if (typeof value === "bigint") {
    return tagged(INT, varint(BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))));
  }
  if (typeof value === "number") return tagged(FLOAT, new Uint8Array(Float64Array.of(value).buffer));
  if (typeof value === "string") return tagged(STR, text(value));
  if (value instanceof Uint8Array) return tagged(BYTES, varint(value.length), value);
  if (Array.isArray(value)) return tagged(LIST, ...counted(value.map(written)));
  const sorted = Object.entries(value).sort(([a], [b]) => Buffer.compare(utf8(a), utf8(b)));
  return tagged(MAP, ...counted(sorted.map(([name, item]) => joined([text(name), written(item)]))));
}

/** The values that stand one behind the other in bytes. */
function* read(bytes) {
  let at = 0;
  const some = (size) => bytes.slice(at, (at += size));
  const varint = () => {
    for (let n = 0n, shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      n |= BigInt(byte & 127) << shift;
      if (byte < 128) return n;
    }
  };
  const count = () => Number(varint());
  const text = () => new TextDecoder().decode(some(count()));
  const next = () => {
    switch (bytes[at++]) {
      case NULL: return null;
      case FALSE: return false;
      case TRUE: return true;
      case INT: { const n = varint(); return BigInt.asIntN(64, (n >> 1n) ^ -(n & 1n)); }
      case FLOAT: return new DataView(some(8).buffer).getFloat64(0, true);
      case STR: return text();
      case BYTES: return some(count());
      case LIST: return Array.from({ length: count() }, next);
      case MAP: return Object.fromEntries(Array.from({ length: count() }, () => [text(), next()]));
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

// What a server writes, in each format: the same state, and the same bytes again, but for what is
// packed, which this module reads and does not write.
const golden = new URL("../../crates/portolan-core/tests/golden/", import.meta.url);
for (const name of ["delta-1.bin", "delta-2.bin", "delta-2-adopted.bin", "delta-3.bin"]) {
  const bytes = await readFile(new URL(name, golden));
  const dan = engine.document_new(4n);
  assert.equal(call("document_apply", dan, [bytes]), 0, name);
  const again = ask("document_encode", dan);
  if (name !== "delta-3.bin") assert.deepEqual(Buffer.from(again), bytes, name);
  const eva = engine.document_new(5n);
  assert.equal(call("document_apply", eva, [again]), 0, name);
  assert.deepEqual(ask("document_encode", eva), again, name);
}

// A list of many elements, which comes again whole, and not at all where a byte is damaged.
for (let i = 0; i < 1_500; i++) write("array_insert", cara, ["many", `${i % 7}`], now + 3, i >> 1);
const whole = ask("document_encode", cara);
const dora = engine.document_new(6n);
assert.equal(call("document_apply", dora, [whole]), 0);
assert.deepEqual(elements(dora, "many"), elements(cara, "many"));
assert.deepEqual(ask("document_encode", dora), whole);
for (let at = 0; at < whole.length; at += 97) {
  const damaged = whole.slice();
  damaged[at] ^= 4;
  assert.equal(call("document_apply", dora, [damaged]), -2);
}

// Many writes, more memory than the module begins with.
for (let i = 0; i < 20_000; i++) write("map_set", cara, [`key-${i}`, BigInt(i)], now + 3);
assert.equal(get(cara, "key-12345"), 12345n);
assert.equal(entries(cara).length, 2 * (20_000 + entries(ada).length / 2));
