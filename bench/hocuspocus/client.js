// A client of a Hocuspocus server: `node client.js writer|reader URL`.
//
// It obeys lines on standard input and answers with lines on standard output, word for word as
// Portolan's client does (`src/sync/client.rs`).

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { HocuspocusProvider } from "@hocuspocus/provider";
import WebSocket from "ws";
import * as Y from "yjs";

const [role, url] = process.argv.slice(2);

// Microseconds of the machine's monotonic clock, which all its processes share.
const now = () => Number(process.hrtime.bigint() / 1000n);
const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);

function connect() {
  const document = new Y.Doc();
  const map = document.getMap("m");
  const provider = new HocuspocusProvider({
    url,
    name: "bench",
    document,
    WebSocketPolyfill: WebSocket,
  });
  return { document, map, provider };
}

// Resolves once the map has so many keys.
function filled(map, keys) {
  return new Promise((resolve) => {
    const check = () => {
      if (map.size >= keys) {
        map.unobserve(check);
        resolve();
      }
    };
    map.observe(check);
  });
}

async function write({ document, map, provider }, [command, ...numbers]) {
  const [first, second] = numbers.map(Number);
  switch (command) {
    case "fill":
      document.transact(() => {
        for (let i = 0; i < first; i += 1) {
          map.set(`key-${String(i).padStart(6, "0")}`, i);
        }
      });
      while (provider.hasUnsyncedChanges) {
        await sleep(1);
      }
      say("filled");
      break;
    case "edit": {
      const start = performance.now();
      for (let i = 0; i < second; i += 1) {
        const due = start + (i * 1000) / first;
        await sleep(Math.max(0, due - performance.now()));
        map.set(`edit-${i}`, now());
      }
      say("edited");
      break;
    }
    case "burst": {
      const start = now();
      for (let i = 0; i < first; i += 1) {
        map.set(`burst-${i}`, i);
      }
      say("started", start);
      break;
    }
    default:
      throw new Error(`no such command: ${command}`);
  }
}

// Calls back for each key of this kind that is written, until it has been for so many.
function watch(map, prefix, count, callback) {
  return new Promise((resolve) => {
    let seen = 0;
    const observe = (event) => {
      for (const key of event.keysChanged) {
        if (key.startsWith(prefix)) {
          seen += 1;
          callback?.(key);
        }
      }
      if (seen >= count) {
        map.unobserve(observe);
        resolve();
      }
    };
    map.observe(observe);
    say("watching");
  });
}

async function read({ map }, [command, count]) {
  switch (command) {
    case "edits": {
      const latencies = [];
      await watch(map, "edit-", Number(count), (key) => latencies.push(now() - map.get(key)));
      say("latencies", ...latencies);
      break;
    }
    case "burst":
      await watch(map, "burst-", Number(count));
      say("finished", now());
      break;
    default:
      throw new Error(`no such command: ${command}`);
  }
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const nextLine = async () => (await lines.next()).value?.split(" ");

let client;
if (role === "writer") {
  client = connect();
  await new Promise((resolve) => client.provider.on("synced", resolve));
  say("connected");
} else {
  // A late joiner: from connecting until it has all the keys.
  const [, keys] = await nextLine();
  const start = performance.now();
  client = connect();
  await filled(client.map, Number(keys));
  say("joined", performance.now() - start);
}
for (let words = await nextLine(); words; words = await nextLine()) {
  await (role === "writer" ? write : read)(client, words);
}
process.exit(0);
